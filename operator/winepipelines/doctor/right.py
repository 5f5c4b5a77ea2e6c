"""One right of the operator, as RBAC grants it. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Right:
    """Verbs on a resource of a group. `name` limits them to one object, `namespace` to one namespace; empty means all."""

    group: str
    resource: str
    verbs: tuple[str, ...]
    name: str = ""
    namespace: str = ""

    def __str__(self) -> str:
        """Name the objects that it applies to."""
        resource = f"{self.resource}.{self.group}" if self.group else self.resource
        named = f" {self.name}" if self.name else ""
        where = f" in {self.namespace}" if self.namespace else ""
        return f"{resource}{named}{where}"

    def rule(self, verbs: tuple[str, ...]) -> str:
        """Format the RBAC rule for some of its verbs, as YAML on one line."""
        group = self.group or '""'
        names = f", resourceNames: [{self.name}]" if self.name else ""
        return f"{{apiGroups: [{group}], resources: [{self.resource}]{names}, verbs: [{', '.join(verbs)}]}}"
