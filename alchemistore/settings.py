"""Where the database and the object store are: from the environment, arguments win."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

EMBEDDED = "embedded://"
DEFAULT_SCHEMA = "alchemistore"
# Seconds; PostgreSQL keeps milliseconds in 31 bits.
TIMEOUT_MAX = 2_147_483.0


class _Settings(BaseSettings):
    # Immutable and hashable, so that equal settings can share what is made from them.
    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, hide_input_in_errors=True
    )


class Settings(_Settings):
    """How to reach the database.

    Attributes
    ----------
    database_url : SecretStr
        ``ALCHEMISTORE_DATABASE_URL``: ``postgresql://user:password@host:port/database``, or ``embedded:///path`` for the private
        server kept in a directory. Secret because it may hold a password: read it with ``.get_secret_value()``.
    pool_size : int, default 5
        ``ALCHEMISTORE_POOL_SIZE``: connections kept open per process.
    pool_timeout : float, default 30
        ``ALCHEMISTORE_POOL_TIMEOUT``: seconds to wait for a free connection.
    connect_timeout : int, default 10
        ``ALCHEMISTORE_CONNECT_TIMEOUT``: seconds to wait for the server.
    statement_timeout : float, default 0
        ``ALCHEMISTORE_STATEMENT_TIMEOUT``: seconds after which a statement is cancelled; 0 means never.
    lock_timeout : float, default 0
        ``ALCHEMISTORE_LOCK_TIMEOUT``: seconds after which a wait for a lock is given up; 0 means never.
    idle_timeout : float, default 0
        ``ALCHEMISTORE_IDLE_TIMEOUT``: seconds after which PostgreSQL ends an open transaction in which nothing
        happens; 0 means never.
    schema_name : str, default "alchemistore"
        ``ALCHEMISTORE_SCHEMA_NAME``: the schema of the tables: lower-case letters, digits and underscores.
    application_name : str, default "alchemistore"
        ``ALCHEMISTORE_APPLICATION_NAME``: what ``pg_stat_activity`` shows.
    prepare_statements : bool, default True
        ``ALCHEMISTORE_PREPARE_STATEMENTS``: set to false behind a PgBouncer that does not keep prepared statements.
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
        return value

    @classmethod
    def from_url(cls, url: str | Settings | None) -> Settings:
        """Return the settings for a URL, or, without one, the settings of the environment."""
        if url is None:
            return get_settings()
        return url if isinstance(url, Settings) else cls(database_url=SecretStr(url))

    @property
    def embedded_directory(self) -> Path | None:
        """The data directory of the private server; ``None`` when the URL names another server."""
        url = self.database_url.get_secret_value()
        return Path(url.removeprefix(EMBEDDED)).expanduser() if url.startswith(EMBEDDED) else None


class S3ObjectStoreSettings(_Settings):
    """How to reach the object store, under the names that the AWS tools use.

    Attributes
    ----------
    AWS_S3_BUCKET, AWS_S3_PREFIX, AWS_DEFAULT_REGION : str
        Where the objects are; nothing outside the prefix is ever touched.
    AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN : SecretStr or None, default None
        Leave them unset to use the role of the host.
    AWS_ENDPOINT_URL : str or None, default None
        The server, when it is not Amazon's.
    """

    AWS_S3_BUCKET: str = Field(min_length=1, validation_alias=AliasChoices("AWS_S3_BUCKET"))
    AWS_S3_PREFIX: str
    AWS_DEFAULT_REGION: str
    AWS_ACCESS_KEY_ID: SecretStr | None = None
    AWS_SECRET_ACCESS_KEY: SecretStr | None = None
    AWS_SESSION_TOKEN: SecretStr | None = None
    AWS_ENDPOINT_URL: str | None = None


def default_schema() -> str:
    """Return the name of the schema: that of the environment, or else ``alchemistore``."""
    return os.environ.get("ALCHEMISTORE_SCHEMA_NAME", DEFAULT_SCHEMA)


@cache
def get_settings() -> Settings:
    """Return the database settings of the environment; they are read once."""
    return Settings()  # type: ignore[call-arg]  # the environment provides the required fields


@cache
def get_s3_settings() -> S3ObjectStoreSettings:
    """Return the object store settings of the environment; they are read once."""
    return S3ObjectStoreSettings()  # type: ignore[call-arg]  # the environment provides the required fields


def bundled_directory(name: str) -> Path:
    """Return a directory that travels with the package.

    Parameters
    ----------
    name : str
        Its name at the top of a checkout; in the installed package it has a leading underscore.
    """
    package = Path(__file__).parent
    installed = package / f"_{name}"
    return installed if installed.is_dir() else package.parent / name
