"""Check the platform: `python -m winepipelines doctor`, and the condition PlatformReady.

`survey` observes everything concurrently (`namespace`: a user's namespace), `checks` evaluate the observations (pure, a
function per check, in reading order), `runner` combines the two. `command` prints the findings; `watch` repeats the checks
while the operator runs. To add a check, write a module in `checks` and register it in `checks.PLATFORM`.
"""
