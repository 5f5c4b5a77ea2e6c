"""Read settings from `WINE_*` variables, and name the variable and the chart's value of what is wrong.

`settings` declares the operator's own; a serving backend declares what it needs in a class of its own.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, get_args, get_origin

import annotated_types
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from winepipelines.validation import Chart, shown

PREFIX = "WINE_"
ELSEWHERE = frozenset({"WINE_CACHE"})  # read by the sandbox and by dev/environment
MESSAGES = {
    "int_parsing": "{input} is not a whole number",
    "int_from_float": "{input} is not a whole number",
    "float_parsing": "{input} is not a number",
    "finite_number": "{input} is not a finite number",
    "literal_error": "{input} is not one of {expected}",
    "greater_than": "must be more than 0",
    "greater_than_equal": "{input} is less than {bound}",
    "less_than_equal": "{input} is more than {bound}",
}
"""What to say about pydantic's errors; any other error has its message from `validation`."""


class SettingsError(Exception):
    """A variable is missing or malformed; the message names it."""


class EnvironmentSettings(BaseSettings):
    """Settings that a `WINE_*` variable each sets. A nested model's variables end in `_SECONDS`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")
    judged_by_doctor: ClassVar[frozenset[str]] = frozenset()
    """Fields that `from_environment(incomplete=True)` leaves to the doctor's checks."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is pydantic's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the environment in `from_environment` only, so that constructing settings does not depend on it."""
        return (init_settings,)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ, *, incomplete: bool = False) -> Self:
        """Read and validate the variables; `incomplete` accepts missing and malformed fields that the doctor judges.

        Raises SettingsError, which names every variable that is missing or malformed, and the chart's value that sets it.
        """
        values = _Source(cls, environment)()
        try:
            return cls(**values)
        except ValidationError as error:
            details = error.errors(include_url=False)
        left = cls.judged_by_doctor if incomplete else frozenset[str]()
        if problems := list(_problems(cls, (detail for detail in details if detail["loc"][0] not in left))):
            raise SettingsError("; ".join(problems))
        wrong = {str(detail["loc"][0]) for detail in details}
        placeholders = {name: cls.example(_variable(name)) for name in wrong if cls.model_fields[name].is_required()}
        valid = cls(**{name: value for name, value in values.items() if name not in wrong} | placeholders)
        return valid.model_copy(update={name: values.get(name, "") for name in wrong})

    def with_(self, **changes: object) -> Self:
        """Copy with other values, which are not validated."""
        return self.model_copy(update=changes)

    @classmethod
    def variable(cls, field: str) -> str:
        """Name the variable that sets a field."""
        return _variable(field)

    @classmethod
    def variables(cls) -> dict[str, FieldInfo]:
        """List the variables that these settings read, each with its field."""
        found: dict[str, FieldInfo] = {}
        for name, field in cls.model_fields.items():
            nested = _nested(field)
            found |= {_variable(name, part): item for part, item in nested.items()} if nested else {_variable(name): field}
        return found

    @classmethod
    def named(cls, variable: str) -> str:
        """Name a variable and, where there is one, the value of the chart that sets it."""
        chart = cls.chart_values().get(variable)
        return f"{variable} (chart value {chart})" if chart else variable

    @classmethod
    def chart_values(cls) -> dict[str, str]:
        """Say which value of the chart sets which variable."""
        found: dict[str, str] = {}
        for name, field in cls.model_fields.items():
            value = next((item.value for item in field.metadata if isinstance(item, Chart)), "")
            if value:
                parts = _nested(field) or {"": field}
                found |= {_variable(name, part): f"{value}.{camel_case(part)}Seconds" if part else value for part in parts}
        return found

    @classmethod
    def example(cls, variable: str) -> str:
        """Show a value that a variable may have: its example, else its default."""
        field = cls.variables()[variable]
        return str(field.examples[0] if field.examples else field.default)

    @classmethod
    def problem(cls, variable: str, value: object) -> str | None:
        """Say what is wrong with a variable's value and what to write instead; None where nothing is."""
        field = cls.variables()[variable]
        kind: Any = Annotated[(field.annotation, *field.metadata)]
        try:
            TypeAdapter(kind).validate_python(value)
        except ValidationError as error:
            return message(error.errors(include_url=False)[0])
        return None


class _Source(EnvSettingsSource):
    """Variables of a mapping, and nested models from variables without the model's name."""

    def __init__(self, settings: type[BaseSettings], environment: Mapping[str, str]) -> None:
        super().__init__(settings)
        self.env_vars = {name.lower(): text.strip() for name, text in environment.items() if name.startswith(PREFIX)}

    def prepare_field_value(self, *arguments: Any, **_: Any) -> Any:
        """Return the text: a field's type reads it, and nothing is JSON."""
        return arguments[2]

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Find a field's text, or a nested model's. An empty text leaves a required field unset."""
        nested = _nested(field)
        if not nested:
            value, key, is_complex = super().get_field_value(field, field_name)
            return (value if value or not field.is_required() else None), key, is_complex
        values = {part: self.env_vars.get(_variable(field_name, part).lower()) for part in nested}
        return {part: text for part, text in values.items() if text is not None}, field_name, False


def unknown_variables(
    classes: Iterable[type[EnvironmentSettings]], environment: Mapping[str, str] = os.environ
) -> tuple[str, ...]:
    """List variables with the operator's prefix that it does not read: most often, a misspelt name."""
    known = {variable for settings in classes for variable in settings.variables()} | ELSEWHERE
    return tuple(sorted(name for name in environment if name.startswith(PREFIX) and name not in known))


def message(error: ErrorDetails) -> str:
    """Say what is wrong with one value."""
    context = error.get("ctx", {})
    template = MESSAGES.get(error["type"])
    if template is None:
        return str(context.get("error", error["msg"]))
    value = error["input"]
    quoted = shown(value) if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)
    expected = str(context.get("expected", "")).replace("'", "").replace(" or ", ", ")
    return template.format(input=quoted, expected=expected, bound=context.get("ge", int(context.get("le", 0))))


def constraints(field: FieldInfo) -> dict[str, Any]:
    """Describe a field's bounds and choices as JSON schema has them, durations in seconds."""
    found: dict[str, Any] = {}
    if get_origin(field.annotation) is Literal:
        found["enum"] = list(get_args(field.annotation))
    for item in field.metadata:
        match item:
            case annotated_types.Ge(ge=bound):
                found["minimum"] = _plain(bound)
            case annotated_types.Gt(gt=bound):
                found["exclusiveMinimum"] = _plain(bound)
            case annotated_types.Le(le=bound):
                found["maximum"] = _plain(bound)
    return found


def camel_case(name: str) -> str:
    """Write a field's name as the chart does."""
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))


def _plain(bound: Any) -> Any:
    return int(bound.total_seconds()) if hasattr(bound, "total_seconds") else bound


def _problems(settings: type[EnvironmentSettings], details: Iterable[ErrorDetails]) -> Iterator[str]:
    """Describe each error; all that is missing in one."""
    missing, others = [], []
    for detail in details:
        name, *part = map(str, detail["loc"])
        variable = _variable(name, *part[:1])
        if detail["type"] == "missing":
            missing.append(settings.named(variable))
        else:
            others.append(f"{settings.named(variable)}: {message(detail)}")
    if missing:
        yield f"not set: {', '.join(missing)}"
    yield from others


def _nested(field: FieldInfo) -> Mapping[str, FieldInfo]:
    kind = field.annotation
    return kind.model_fields if isinstance(kind, type) and issubclass(kind, BaseModel) else {}


def _variable(name: str, part: str = "") -> str:
    return f"{PREFIX}{part.upper()}_SECONDS" if part else PREFIX + name.upper()
