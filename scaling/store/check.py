"""Whether an MLflow store can be used: known in seconds, before anything trains, said in a line."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from scaling.addresses import without_password
from scaling.commands import command

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

ADDRESS = re.compile(
    r"((sqlite|postgresql|mysql|mssql)(\+\w+)?|https?|databricks|file)://|databricks$|[^:]*$"
)
LIKE = "give sqlite:///<file>, postgresql+psycopg://.. or http://.., or none"
DATABASE = re.compile(r"(sqlite|postgresql|mysql|mssql)(\+\w+)?://")
CONNECT_SECONDS = 10
OPENING_SECONDS = 60  # for others that make its tables
# A connection whose other end is gone ends after a minute, not after the system's two hours.
POSTGRESQL_LIMITS = {
    "connect_timeout": str(CONNECT_SECONDS),
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}
AWAY = re.compile(
    r"database is locked|connection refused|timed? ?out|starting up|shutting down|recovery mode"
    r"|too many clients|closed the connection|unreachable|connection (was )?reset|aborted"
    r"|error code 50[234]",
    re.IGNORECASE,
)
REASONS = {  # what is found in an error -> what is said
    "database is locked": "another program holds a lock on it",
    "name or service not known|failed to resolve|nodename nor servname": "no such host is known",
    "connection refused": "nothing answers at this host and port",
    "password authentication failed|error code 401": "user or password is wrong",
    "error code 403": "the server refuses this user, or this host name (--allowed-hosts)",
    "out-of-date database schema": "its tables are of an older MLflow; make a backup, then run "
    "mlflow db upgrade",
}


class StoreError(RuntimeError):
    """The MLflow store cannot be opened or written; the message is one line."""


def check_address(uri: str) -> None:
    """StoreError for what is no store's address, or a SQLite file that cannot be: nothing is
    opened."""
    if not ADDRESS.match(uri):
        raise StoreError(
            store_message(uri, StoreError("is not an address of an MLflow store; " + LIKE))
        )
    prefix = "sqlite:///"
    path = Path(uri[len(prefix) :].split("?", 1)[0])
    if not uri.startswith(prefix) or uri.startswith((f"{prefix}file:", f"{prefix}:memory:")):
        return
    folder = next((one for one in path.absolute().parents if one.exists()), Path("/"))
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise StoreError(store_message(uri, StoreError("no file can be written there")))


@contextmanager
def checked(uri: str) -> Iterator[None]:
    """Hold a database that can be written, so that no other process makes its tables meanwhile.

    Raises StoreError at once for a driver that is missing and for tables of a newer MLflow, and
    what the driver raises for an address that cannot be opened or written; MLflow tries for
    minutes. Other stores are left to MLflow.
    """
    if not DATABASE.match(uri):
        with _short_requests():
            yield
        return
    if uri.startswith("postgresql"):
        with engine_of(uri).connect() as connection:
            _refuse_newer_schema(connection)
            connection.exec_driver_sql(f"SET lock_timeout = '{OPENING_SECONDS}s'")
            connection.exec_driver_sql("SELECT pg_advisory_lock(hashtext('batch-scaling'))")
            yield  # and the lock ends with the connection
        return
    with _own_lock(uri):
        with engine_of(uri).connect() as connection:
            if uri.startswith("sqlite"):
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                connection.rollback()
            _refuse_newer_schema(connection)
        yield


@contextmanager
def _own_lock(uri: str) -> Iterator[None]:
    """Against other processes of this user, in a folder that no other user can hold files in."""
    path = _own_folder() / f"{hashlib.sha256(uri.encode()).hexdigest()[:16]}.lock"
    try:
        with FileLock(path, OPENING_SECONDS):
            yield
    except Timeout:
        raise StoreError(f"another program holds {path}; wait for it or end it") from None


def _own_folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"batch-scaling-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise StoreError(f"{folder} belongs to another user; remove it, or set TMPDIR")
    return folder


@contextmanager
def _short_requests() -> Iterator[None]:
    """A server that does not answer must not hold up the start."""
    key = "MLFLOW_HTTP_REQUEST_TIMEOUT"
    given = os.environ.get(key)
    os.environ[key] = str(CONNECT_SECONDS)
    try:
        yield
    finally:
        if given is None:
            del os.environ[key]
        else:
            os.environ[key] = given


def engine_of(uri: str) -> Engine:
    from sqlalchemy import create_engine
    from sqlalchemy.exc import NoSuchModuleError
    from sqlalchemy.pool import NullPool

    try:
        return create_engine(with_limits(uri), poolclass=NullPool)
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        name = getattr(error, "name", None) or uri.split(":", 1)[0]
        advice = (
            "use postgresql+psycopg:// and pip install 'batch-scaling[postgresql]'"
            if uri.startswith("postgresql")
            else "install it"
        )
        raise StoreError(f"the database driver {name} is missing; {advice}") from None


def with_limits(uri: str) -> str:
    """The address of a PostgreSQL database with limits on how long it may be silent."""
    if not re.match(r"postgresql(\+psycopg2?)?://", uri):
        return uri
    from sqlalchemy import make_url

    url = make_url(uri)
    limits = {key: value for key, value in POSTGRESQL_LIMITS.items() if key not in url.query}
    return url.update_query_dict(limits).render_as_string(hide_password=False)


def _refuse_newer_schema(connection: Connection) -> None:
    from alembic.runtime.migration import MigrationContext

    revision = MigrationContext.configure(connection).get_current_revision()
    connection.rollback()
    spec = importlib.util.find_spec("mlflow")
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0]) / "store" / "db_migrations" / "versions"
    if revision is not None and not list(folder.glob(f"{revision}_*.py")):
        raise StoreError(
            f"its tables are of a newer MLflow (schema {revision}) than the one installed here "
            f"({version('mlflow')}); install that one here, or name another store"
        )


def is_away(error: BaseException) -> bool:
    """What a store raised says that it does not answer now, not that it never will."""
    return AWAY.search(str(error)) is not None


REFUSALS = (  # MLflow's codes for what it will not take, however often it is asked
    *("INVALID_PARAMETER_VALUE", "INVALID_STATE", "PERMISSION_DENIED", "RESOURCE_DOES_NOT_EXIST"),
    *("RESOURCE_ALREADY_EXISTS", "RESOURCE_CONFLICT", "NOT_IMPLEMENTED", "MALFORMED_REQUEST"),
)
OF_CONTENT = ("IntegrityError", "DataError")  # a database's, of what it was given
BAD_VALUES = (ValueError, TypeError, KeyError, AttributeError)


def is_refused(error: BaseException) -> bool:
    """The store takes this write not now and not later, and may well take others.

    Everything else is taken as its being away: to be waited for, and tried again.
    """
    if isinstance(error, BAD_VALUES):
        return True
    if is_away(error) or isinstance(error, StoreError):
        return False
    code = getattr(error, "error_code", None)
    cause = type(error.__cause__).__name__
    return code in REFUSALS or (code == "BAD_REQUEST" and cause in OF_CONTENT)


def reason_of(error: BaseException) -> str:
    """What a store said, in a line without passwords."""
    if isinstance(error, KeyError):
        return f"{error.args[0]} is missing" if error.args else "a key is missing"
    raised = re.sub(r"^[A-Z_]+: ", "", without_password(_first_line(error)))
    return _known_reason(error) or raised[:300] or type(error).__name__


def _known_reason(error: BaseException) -> str | None:
    text = str(error)
    reasons = (reason for pattern, reason in REASONS.items() if re.search(pattern, text, re.I))
    return next(reasons, None)


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")


def store_message(uri: str, error: BaseException) -> str:
    """One line for whatever a store raises."""
    shown = without_password(uri, whole=True)
    if isinstance(error, StoreError):
        return f"tracking.uri={shown}: {without_password(str(error), uri)}"
    raised = f"{type(error).__name__}: {without_password(_first_line(error), uri)}"
    reason = _known_reason(error) or raised[:300]
    return (
        f"tracking.uri={shown}: the MLflow store cannot be opened or written ({reason}); "
        "check the address and your rights to write there, or record only (tracking.uri=none) and "
        f"write it later ({command('sync')})"
    )
