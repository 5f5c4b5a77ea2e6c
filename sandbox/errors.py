"""Errors of a sandbox. Every message explains what to do; `__main__` prints it unchanged."""


class SandboxError(RuntimeError):
    """The sandbox cannot carry out a command."""


class BuildError(SandboxError):
    """A program or a Python environment could not be built."""


class ClusterError(SandboxError):
    """The sandbox cannot or must not use a cluster. It changed nothing there."""


class EngineError(ClusterError):
    """No container engine can be used."""


class ComponentError(SandboxError):
    """A component ended, or was not ready in time. The message contains the end of its log."""


class PortTakenError(ComponentError):
    """Another program took a component's port between the choice and the start."""


class KubectlError(SandboxError):
    """kubectl failed; the message is its output."""
