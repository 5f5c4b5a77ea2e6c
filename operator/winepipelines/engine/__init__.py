"""The generic machinery of a controller that many tenants share: it knows no kind of resource and no system."""
