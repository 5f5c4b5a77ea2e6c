"""`explain`: which check decided on a resource, and the facts that it used, from a dump of the resource alone."""
