"""One place for everything that can be set: flags, ``KAGENT_*`` variables, ``.env``.

The same class is the graph's ``context_schema``, so LangGraph Studio shows these fields as a
form and ``graph.invoke(..., context={"vmlinux": "..."})`` overrides them for one run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

__all__ = ["Settings"]


class Settings(BaseSettings):
    """What a run may use. Every field has a working default: no data and no model."""

    model_config = SettingsConfigDict(
        env_prefix="KAGENT_", env_file=".env", extra="ignore", populate_by_name=True
    )

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
        validation_alias=AliasChoices("KAGENT_DEBUGINFOD_URLS", "DEBUGINFOD_URLS"),
        description="Servers to ask for debug info by build-id; they see no more than that id.",
    )
    source_map: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="OLD=NEW: sources that debug info names below OLD are below NEW. "
        "In KAGENT_SOURCE_MAP several stand with commas between them.",
    )
    index: Annotated[tuple[Path, ...], NoDecode] = Field(
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
    api_key: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("KAGENT_API_KEY", "OPENAI_API_KEY")
    )
    base_url: str | None = Field(
        default=None, validation_alias=AliasChoices("KAGENT_BASE_URL", "OPENAI_BASE_URL")
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

    max_log_bytes: int = Field(
        default=64 * 1024 * 1024, gt=0, description="Larger logs are refused."
    )
    fixes: int = Field(default=4, ge=1, le=50, description="How many candidate fixes to return.")

    @field_validator("index", mode="before")
    @classmethod
    def _list_indexes(cls, given: Any) -> Any:
        if isinstance(given, str):
            return [part for part in given.split(",") if part]
        return () if given is None else [given] if isinstance(given, Path) else given

    @field_validator("source_map", mode="before")
    @classmethod
    def _split_source_map(cls, given: Any) -> Any:
        return [part for part in given.split(",") if part] if isinstance(given, str) else given
