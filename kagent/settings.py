"""One place for everything that can be set; `kagent.sources` says where and in which order.

A `Settings` object is made by the user's own process and may name anything. What comes with a
request is no `Settings`: see `kagent.agents.request` for what it may say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
)

from kagent.errors import InputError
from kagent.sources import Layer, Setting, Source, config_file, read_layers, unknown

__all__ = ["DEFAULT_ENDPOINT", "Settings"]

DEFAULT_ENDPOINT = "https://api.openai.com/v1"
"""Where a model is asked when nobody names an endpoint."""


def _several(given: Any) -> Any:
    """A list, also written as one string with commas in it."""
    if isinstance(given, str):
        return [part for part in given.split(",") if part]
    return () if given is None else [given] if isinstance(given, Path) else given


_Names = Annotated[tuple[str, ...], BeforeValidator(_several)]
_Paths = Annotated[tuple[Path, ...], BeforeValidator(_several)]


class Settings(BaseModel):
    """What a run may use. Every field has a working default: no data, no model, no network.

    What is not given as a keyword is read from the environment (``KAGENT_`` and the field's name
    in capitals), from the file that ``env_file`` names, and from the user's configuration file.

    Raises:
        InputError: a name is unknown, a value is out of its range or of the wrong type, or a file
            of settings cannot be used.
    """

    model_config = ConfigDict(extra="forbid")

    vmlinux: Path | None = Field(
        default=None, description="vmlinux with debug info of the crashed kernel."
    )
    modules: Path | None = Field(
        default=None, description="Directory with .ko files (and their sources)."
    )
    kernel_src: str | None = Field(
        default=None, description="Kernel source: PATH of a tree, or PATH@REV of a git repository."
    )
    debug_dir: Path = Field(
        default=Path("/usr/lib/debug"),
        description="Where installed debug packages have their files; searched for vmlinux.",
    )
    debuginfod_urls: str | None = Field(
        default=None,
        description="Servers to ask for debug info by build-id; they see no more than that id.",
    )
    source_map: _Names = Field(
        default=(),
        description="OLD=NEW: sources that debug info names below OLD are below NEW. "
        "In KAGENT_SOURCE_MAP several stand with commas between them.",
    )
    index: _Paths = Field(
        default=(),
        description="Commit indexes written by `kagent index build`, searched together. "
        "In KAGENT_INDEX several stand with commas between them.",
    )
    allow_mismatch: bool = Field(
        default=False,
        description="Use debug info of another build and label every line approximate.",
    )

    model: str | None = Field(
        default=None,
        description="Chat model of an OpenAI-compatible endpoint; none: expert rules alone.",
    )
    models: _Names = Field(
        default=(), description="Models that clients of a server may choose besides `model`."
    )
    api_key: SecretStr | None = Field(
        default=None, description="Goes to the endpoint it was set with, and nowhere else."
    )
    base_url: str | None = Field(
        default=None, description=f"OpenAI-compatible endpoint; none: {DEFAULT_ENDPOINT}."
    )
    model_timeout: float = Field(default=120.0, gt=0, description="Seconds for one model call.")
    model_retries: int = Field(default=2, ge=0, le=10)
    max_model_tokens: int = Field(
        default=8192, ge=256, description="Tokens of one model answer at most."
    )
    max_model_calls: int = Field(
        default=12, ge=1, description="Model calls of one agent in one run."
    )
    max_task_agents: int = Field(
        default=8, ge=1, description="Sub-agents of one deadlock analysis."
    )

    offline: bool = Field(
        default=False, description="Nothing leaves this machine, whatever else is set."
    )
    restore: bool = Field(
        default=False,
        description="Let the model restore a damaged log: the damaged lines go to its endpoint.",
    )
    tracing: bool = Field(
        default=False,
        description="Let LangSmith trace runs, as its own variables say: logs go to its server.",
    )
    hub: bool = Field(
        default=False, description="Let embedding models be fetched from the Hugging Face hub."
    )

    max_log_bytes: int = Field(
        default=64 * 1024 * 1024, gt=0, description="Larger logs are refused."
    )
    fixes: int = Field(default=4, ge=1, le=50, description="How many candidate fixes to return.")
    env_file: Path | None = Field(
        default=None, description="File of KAGENT_* lines, weaker than the environment itself."
    )

    _sources: dict[str, Source] = PrivateAttr(default_factory=dict)
    _withheld: str | None = PrivateAttr(default=None)
    _gate: Any = PrivateAttr(default=None)

    def __init__(self, **given: Any) -> None:
        known = type(self).model_fields
        for name in given:
            if name not in known:
                raise unknown(name, known, "setting")
        env_file = given.get("env_file")
        mine = {name: (Setting(value, Source.GIVEN, name),) for name, value in given.items()}
        layers = [
            Layer(Source.GIVEN, mine),
            *read_layers(known, env_file=Path(env_file) if env_file else None),
        ]
        chosen = {name: one for name in known if (one := _strongest(layers, name)) is not None}
        key, withheld = _paired_key(layers, chosen.get("base_url"))
        chosen.pop("api_key", None)
        if key is not None:
            chosen["api_key"] = key
        # An empty variable takes back what a weaker source says.
        values = {
            name: one.value
            for name, one in chosen.items()
            if one.source is Source.GIVEN or one.value != ""
        }
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise _bad_value(error, chosen) from error
        self._sources = {name: chosen[name].source for name in values}
        self._withheld = withheld

    def source(self, name: str) -> Source:
        """Who set a field of this name."""
        return self._sources.get(name, Source.DEFAULT)

    @property
    def endpoint(self) -> str:
        """URL of the model endpoint, named or the default."""
        return self.base_url or DEFAULT_ENDPOINT

    @property
    def key_withheld(self) -> str | None:
        """Why a key that somebody set is not used, in words."""
        return self._withheld


def _strongest(layers: Sequence[Layer], name: str) -> Setting | None:
    return next((layer.settings[name][0] for layer in layers if name in layer.settings), None)


def _keys(layers: Sequence[Layer]) -> Iterator[tuple[Setting, Setting | None]]:
    """Every key, the strongest first, with the endpoint that was set with it."""
    for layer in layers:
        endpoints = layer.settings.get("base_url", ())
        for key in layer.settings.get("api_key", ()):
            if key.value:
                yield key, next((e for e in endpoints if e.family == key.family and e.value), None)


def _paired_key(
    layers: Sequence[Layer], endpoint: Setting | None
) -> tuple[Setting | None, str | None]:
    """The key that may go to `endpoint`; where there is none, why those that are set may not.

    A key belongs to the endpoint that the same source names under the same prefix. One that was
    set alone goes to the default endpoint, or to one that its own or a stronger source names.
    """
    where = str(endpoint.value) if endpoint is not None and endpoint.value else None
    withheld = None
    for key, partner in _keys(layers):
        if partner is not None:
            fits = _origin(str(partner.value)) == _origin(where or DEFAULT_ENDPOINT)
        else:
            fits = where is None or (endpoint is not None and endpoint.source >= key.source)
        if fits:
            return key, None
        withheld = withheld or (
            f"{key.name} was not used: it was not set for {_shown(where or DEFAULT_ENDPOINT)}; "
            "set KAGENT_API_KEY and KAGENT_BASE_URL together"
        )
    return None, withheld


def _origin(url: str) -> tuple[str, str | None, int | None]:
    try:
        parts = urlsplit(url)
        default = {"http": 80, "https": 443}.get(parts.scheme)
        return parts.scheme, parts.hostname, parts.port or default
    except ValueError:
        return url, None, None


def _shown(url: str) -> str:
    scheme, host, port = _origin(url)
    return f"{scheme}://{host}:{port}"


def _bad_value(error: ValidationError, chosen: dict[str, Setting]) -> InputError:
    first = error.errors(include_url=False, include_input=False)[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    variable = f"KAGENT_{name.upper()}"
    at = chosen.get(name)
    said = {Source.FILE: f"{config_file()}", Source.ENV_FILE: "the --env-file"}
    where = said.get(at.source) if at is not None else None
    hint = f"check the option or the variable {variable}" if where is None else f"check {where}"
    wrong = "Input should be a path" if first["type"] == "path_type" else first["msg"]
    return InputError(f"setting {'.'.join(map(str, first['loc']))}: {wrong}", hint=hint)
