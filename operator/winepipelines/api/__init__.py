"""The resource and what can be seen of the world around it, as typed values. Imports nothing of the other rooms."""
