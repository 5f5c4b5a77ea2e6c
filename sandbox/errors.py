"""What goes wrong in a sandbox. Every message says what to do; `__main__` shows it as it stands."""


class SandboxError(RuntimeError):
    """The sandbox cannot do what was asked."""


class BuildError(SandboxError):
    """A program or a Python environment could not be made."""


class ClusterError(SandboxError):
    """The sandbox cannot, or must not, use a cluster; nothing has been changed in it."""


class EngineError(ClusterError):
    """No container engine can be used."""


class ComponentError(SandboxError):
    """A component ended, or was not ready in time; the message holds the end of its log."""


class PortTakenError(ComponentError):
    """Another program took a component's port between the choice and the start."""


class KubectlError(SandboxError):
    """kubectl refused; the message is what it said."""
