"""What is wrong with this platform, and the fix: `python -m winepipelines doctor`, and the condition PlatformReady.

`survey` looks at everything at once (`namespace`: at a user's), `checks` judge what it saw (pure, one function a thing, in
reading order), `walk` puts the two together. `command` prints the findings; `watch` repeats the walk slowly while the operator
runs.
"""
