"""Settings of the database and the object store, from arguments or the environment."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

EMBEDDED = "embedded://"
DEFAULT_SCHEMA = "alchemistore"
MODULES_VARIABLE = "ALCHEMISTORE_MODULES"
# Seconds; PostgreSQL keeps milliseconds in 31 bits.
TIMEOUT_MAX = 2_147_483.0


class _Settings(BaseSettings):
    # Frozen and hashable, so that equal settings can share a store.
    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, hide_input_in_errors=True
    )

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ValueError("; ".join(map(self._sentence, error.errors()))) from None

    @classmethod
    def _sentence(cls, error: Any) -> str:
        name = ".".join(map(str, error["loc"]))
        variable = f"{cls.model_config['env_prefix']}{name}".upper()
        if error["type"] == "missing":
            return f"{name} is not set: set the environment variable {variable}"
        if name in cls.model_fields:
            return f"{variable}: {error['msg']}"
        return f"{name}: {error['msg']}"


class Settings(_Settings):
    """Settings of the database.

    Attributes
    ----------
    database_url : SecretStr
        ``ALCHEMISTORE_DATABASE_URL``: ``postgresql://user:password@host:port/database``, or
        ``embedded:///path`` for a private server in a directory. The URL may contain a password, so
        it is secret: read it with ``.get_secret_value()``.
    pool_size : int, default 5
        ``ALCHEMISTORE_POOL_SIZE``: number of connections of a process. It opens up to twice as many
        under load, which stay open.
    pool_timeout : float, default 30
        ``ALCHEMISTORE_POOL_TIMEOUT``: seconds to wait for a free connection of the pool.
    connect_timeout : int, default 10
        ``ALCHEMISTORE_CONNECT_TIMEOUT``: seconds to wait for the server.
    statement_timeout : float, default 0
        ``ALCHEMISTORE_STATEMENT_TIMEOUT``: seconds after which a statement is cancelled; 0 means
        never.
    lock_timeout : float, default 0
        ``ALCHEMISTORE_LOCK_TIMEOUT``: seconds after which a wait for a lock is cancelled; 0 means
        never.
    idle_timeout : float, default 0
        ``ALCHEMISTORE_IDLE_TIMEOUT``: seconds after which PostgreSQL ends an open transaction in
        which nothing happens; 0 means never.
    schema_name : str, default "alchemistore"
        ``ALCHEMISTORE_SCHEMA_NAME``: the schema of the tables: lower-case letters, digits and
        underscores.
    application_name : str, default "alchemistore"
        ``ALCHEMISTORE_APPLICATION_NAME``: name of the connections in ``pg_stat_activity``.
    prepare_statements : bool, default True
        ``ALCHEMISTORE_PREPARE_STATEMENTS``: set to false behind a PgBouncer without support for
        prepared statements.

    Raises
    ------
    ValueError
        If a value is missing or invalid. The message names the environment variable.
    """

    model_config = SettingsConfigDict(env_prefix="ALCHEMISTORE_")

    database_url: SecretStr
    pool_size: int = Field(default=5, ge=1)
    pool_timeout: float = Field(default=30.0, gt=0)
    connect_timeout: int = Field(default=10, ge=1)
    statement_timeout: float = Field(default=0.0, ge=0, le=TIMEOUT_MAX)
    lock_timeout: float = Field(default=0.0, ge=0, le=TIMEOUT_MAX)
    idle_timeout: float = Field(default=0.0, ge=0, le=TIMEOUT_MAX)
    schema_name: str = Field(default=DEFAULT_SCHEMA, max_length=63, pattern=r"^[a-z_][a-z0-9_]*$")
    application_name: str = "alchemistore"
    prepare_statements: bool = True

    @field_validator("schema_name")
    @classmethod
    def _not_reserved(cls, value: str) -> str:
        if value.startswith("pg_") or value == "information_schema":
            raise ValueError("PostgreSQL reserves this schema name; choose another one")
        return value

    @field_validator("database_url")
    @classmethod
    def _known_scheme(cls, value: SecretStr) -> SecretStr:
        url = value.get_secret_value()
        if not url.startswith(("postgresql://", "postgres://", "postgresql+psycopg://", EMBEDDED)):
            raise ValueError("the database URL must start with 'postgresql://' or 'embedded://'")
        if url == EMBEDDED:
            raise ValueError("the directory is missing: write 'embedded:///directory'")
        return value

    @classmethod
    def from_url(cls, url: str | Settings | None) -> Settings:
        """Return the settings for a URL; without a URL, the settings of the environment."""
        if url is None:
            return get_settings()
        return url if isinstance(url, Settings) else cls(database_url=SecretStr(url))

    @property
    def embedded_directory(self) -> Path | None:
        """The data directory of the private server; ``None`` for another server."""
        url = self.database_url.get_secret_value()
        return Path(url.removeprefix(EMBEDDED)).expanduser() if url.startswith(EMBEDDED) else None


class S3ObjectStoreSettings(_Settings):
    """Settings of the object store. The names are the environment variables of the AWS tools.

    Attributes
    ----------
    AWS_S3_BUCKET, AWS_S3_PREFIX, AWS_DEFAULT_REGION : str
        Location of the objects. Nothing outside the prefix is read, written or removed.
    AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN : SecretStr or None, default None
        Credentials; unset, the role of the host is used.
    AWS_ENDPOINT_URL : str or None, default None
        URL of the server; unset, Amazon S3.

    Raises
    ------
    ValueError
        If a value is missing or invalid. The message names the environment variable.
    """

    AWS_S3_BUCKET: str = Field(min_length=1, validation_alias=AliasChoices("AWS_S3_BUCKET"))
    AWS_S3_PREFIX: str
    AWS_DEFAULT_REGION: str
    AWS_ACCESS_KEY_ID: SecretStr | None = None
    AWS_SECRET_ACCESS_KEY: SecretStr | None = None
    AWS_SESSION_TOKEN: SecretStr | None = None
    AWS_ENDPOINT_URL: str | None = None

    @field_validator("AWS_ENDPOINT_URL")
    @classmethod
    def _without_secrets(cls, value: str | None) -> str | None:
        return value and require_plain_endpoint(value)


def require_plain_endpoint(url: str) -> str:
    """Return the URL of an S3 server, which libraries write to logs and into errors.

    Raises
    ------
    ValueError
        If it is not a URL, or may contain a password. The message does not contain it.
    """
    try:
        parts = urlsplit(url)
        plain = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        plain = False
    if not plain:
        # Raised here, because the first error may contain a part of the URL.
        raise ValueError(
            "AWS_ENDPOINT_URL is not a URL; expected 'http://host:port' or 'https://host'"
        )
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError(
            "AWS_ENDPOINT_URL must not contain a user, a password or a query: it appears in logs;"
            " set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead"
        )
    return url


def default_schema() -> str:
    """Return the name of the schema: that of the environment, or else ``alchemistore``."""
    return os.environ.get("ALCHEMISTORE_SCHEMA_NAME", DEFAULT_SCHEMA)


def allowed_modules() -> tuple[str, ...]:
    """Return the modules that documents may name in addition, each with its submodules.

    ``ALCHEMISTORE_MODULES`` lists them, separated by commas.
    """
    names = os.environ.get(MODULES_VARIABLE, "").split(",")
    return tuple(name.strip() for name in names if name.strip())


@cache
def get_settings() -> Settings:
    """Return the database settings of the environment, which is read once."""
    return Settings()  # type: ignore[call-arg]  # the environment provides the fields


@cache
def get_s3_settings() -> S3ObjectStoreSettings:
    """Return the object store settings of the environment, which is read once."""
    return S3ObjectStoreSettings()  # type: ignore[call-arg]  # the environment provides the fields


def bundled_directory(name: str) -> Path:
    """Return a directory of the checkout that is also part of the installed package.

    Parameters
    ----------
    name : str
        Its name in the checkout. In the installed package it has a leading underscore.
    """
    package = Path(__file__).parent
    installed = package / f"_{name}"
    return installed if installed.is_dir() else package.parent / name
