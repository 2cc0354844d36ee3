"""The settings of a fog daemon: defaults, then the environment, then command line flags.

Each setting ``x`` is read from the environment variable ``FOG_X``, but for `RETENTION`.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from fog_compute.errors import ConfigError
from fog_compute.flaws import flaw_said
from fog_compute.hosts import is_loopback, read_host
from fog_compute.layout import MAX_BLOB_BYTES, HomeLayout, default_home, usable_home, whole_path
from fog_compute.levels import PrivacyLevel
from fog_compute.strategies import Strategy

__all__ = ["HomeLayout", "Settings", "load_settings", "variable_of"]

RETENTION: Final = "PROMETHEUS_RETENTION_DAYS"

_FILES: Final = ("tls_cert", "tls_key", "metrics_key_file")
_HTTP_URL: Final = re.compile(
    r"https?://"
    r"(?:(?:[\w.~!$&'()*+,;=:-]|%[0-9a-f]{2})*@)?"  # who asks
    r"(?:[\w.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?"
    r"(?:[/?#](?:[!-$&-~]|%[0-9a-f]{2})*)?",
    re.ASCII | re.IGNORECASE,
)
"""What all programs that get such a URL can read: where one cannot, it tells all of it."""
_DEFAULT_NODE_COUNTS: Final = {"entry": 2, "middle": 6, "exit": 2}


class Settings(BaseSettings):
    """All settings; unknown names given in code are refused."""

    model_config = SettingsConfigDict(
        env_prefix="FOG_", env_ignore_empty=True, extra="forbid", frozen=True
    )

    home: Path = Field(
        default_factory=default_home,
        description="Folder that holds all state of this fog.",
    )
    host: str = Field("127.0.0.1", description="Address that the HTTP interface binds.")
    allow_remote: bool = Field(
        False, description="Let the HTTP interface bind an address that is not loopback."
    )
    names: str = Field(
        "",
        description="Names under which the HTTP interface may be asked, A,B,…, beside its addresses"
        " and what its certificate names: those of a proxy, or of a container.",
    )
    tls_cert: Path | None = Field(
        None,
        description="Certificate of the HTTP interface, in PEM, with those that lead to its"
        " issuer; it is then asked with https.",
    )
    tls_key: Path | None = Field(None, description="The certificate's key, in PEM.")
    port: int = Field(
        8000, ge=0, le=65535, description="Port of the HTTP interface; 0 takes any free one."
    )
    net: Path | None = Field(
        None,
        description="Bootstrap file of the mixnet; without it, and without `fog net join`, `fog up`"
        " runs a local net.",
    )
    listen: str | None = Field(
        None,
        description="Address of this machine at which others reach the local net; by default none"
        " does.",
    )
    database_url: SecretStr | None = Field(
        None,
        description="URL of the database, sqlite:///path or postgresql://user:password@host/name;"
        " by default home/daemon/fog.db.",
    )
    blobs: Path | None = Field(
        None,
        description="Folder of modules, inputs and large results; by default beside an SQLite file,"
        " and in a Postgres database itself.",
    )
    blob_bytes: int = Field(
        16 * 1024**3,
        ge=1024**2,
        description="Bytes that modules, inputs and large results may have together; above it"
        " uploads are refused, and results still kept.",
    )
    redis_url: SecretStr | None = Field(
        None,
        description="URL of a Redis in which backends count the requests of a key together, and"
        " which tells those of one Postgres database of each other's events, too; everything works"
        " without it.",
    )
    workers: int = Field(1, ge=0, le=64, description="Local workers that `fog up` starts.")
    slots: int = Field(1, ge=1, le=64, description="Tasks that one local worker runs at once.")
    kinds: str = Field(
        "wasm,python",
        pattern="^(wasm|python)(,(wasm|python))*$",
        description="Kinds of task that local workers run; python only where it is installed.",
    )
    memory_mib: int = Field(
        1024, ge=1, le=65536, description="Memory that one task may have on a local worker, MiB."
    )
    worker_http_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Port on loopback at which a local worker shows its health and metrics, the"
        " next worker at the next port; 0 takes any free ones.",
    )
    entry_nodes: int = Field(
        _DEFAULT_NODE_COUNTS["entry"], ge=1, le=16, description="Entry nodes of the local net."
    )
    middle_nodes: int = Field(
        _DEFAULT_NODE_COUNTS["middle"], ge=1, le=64, description="Middle nodes of the local net."
    )
    exit_nodes: int = Field(
        _DEFAULT_NODE_COUNTS["exit"], ge=1, le=16, description="Exit nodes of the local net."
    )
    epoch_s: float | None = Field(
        None,
        ge=5,
        le=86400,
        description="Epoch of the local net, seconds: fixed by its first start, by default 600.",
    )
    mean_delay_ms: int | None = Field(
        None,
        ge=1,
        le=60000,
        description="Mean delay of each hop of the local net, milliseconds: by default 15.",
    )
    exact_metrics: bool = Field(
        False, description="Let mix nodes export exact counters, which helps an observer too."
    )
    lease_s: float = Field(
        60.0, ge=1, le=86400, description="Seconds without news after which a worker loses a task."
    )
    owner_lease_s: float = Field(
        8.0,
        ge=1,
        le=3600,
        description="Seconds without a sign of life of a backend after which another one on the"
        " same Postgres database takes over its tasks; the same for all of them.",
    )
    request_timeout_s: float = Field(
        10.0, gt=0, le=600, description="Seconds to wait for the answer to one message."
    )
    poll_min_s: float = Field(0.05, gt=0, le=60, description="First pause between two polls.")
    poll_max_s: float = Field(30.0, gt=0, le=3600, description="Longest pause between two polls.")
    worker_refresh_s: float = Field(
        5.0, gt=0, le=3600, description="Seconds between two looks at the list of workers."
    )
    result_ttl_s: float = Field(
        7 * 86400.0, gt=0, description="Seconds that a finished task and its result are kept."
    )
    max_body_bytes: int = Field(
        MAX_BLOB_BYTES,
        ge=1024,
        le=MAX_BLOB_BYTES,
        description="Largest request body that the backend accepts.",
    )
    metrics_key_file: Path | None = Field(
        None,
        description="File in which the backend keeps a key of the scope metrics, for Prometheus:"
        " made and renewed by itself, and readable by the file's group.",
    )
    rate_limit: int = Field(
        30_000, ge=1, le=10_000_000, description="Requests that one API key may make in a minute."
    )
    max_wait_s: float = Field(60.0, ge=0, le=600, description="Longest long-poll, seconds.")
    strategy: Strategy | None = Field(
        None,
        description="How workers are chosen where a task does not say; by default as its"
        " level needs it: affinity, or privacy_aware at confidential and secret.",
    )
    near: str = Field(
        "", description="Groups whose workers count as near for the strategy proximity: A,B,…"
    )
    chat_name: str = Field(
        "",
        max_length=80,
        description="What others see as the name of who sends messages from here; by default the"
        " name that was given before.",
    )
    chat_level: PrivacyLevel = Field(
        PrivacyLevel.PRIVATE,
        description="Privacy level of messages between people over the mixnet; who writes to each"
        " other needs the same.",
    )
    chat_ble: bool = Field(
        True, description="Let messages go over Bluetooth, too, where there is an adapter."
    )
    chat_adapter: str = Field(
        "",
        max_length=40,
        description="Adapter for that: hci0, or raw HCI such as usb:0 (which needs bumble); by"
        " default what the system offers.",
    )
    chat_islands: str = Field(
        "",
        pattern="^([0-9a-f]{64}(,[0-9a-f]{64})*)?$",
        description="Fingerprints of people, A,B,…, whose Bluetooth mesh ours is joined with"
        " through the mixnet; they have to name ours, too.",
    )
    monitoring: bool = Field(
        False,
        description="Let `fog up` start Prometheus and Alertmanager, too, from the system's"
        " packages.",
    )
    prometheus_port: int = Field(
        9090, ge=0, le=65535, description="Port of that Prometheus; 0 takes any free one."
    )
    alertmanager_port: int = Field(
        9093, ge=0, le=65535, description="Port of that Alertmanager; 0 takes any free one."
    )
    prometheus_retention_days: int = Field(
        30,
        ge=1,
        le=3650,
        # The name under which Docker's files know it as well.
        validation_alias=AliasChoices(RETENTION, "prometheus_retention_days"),
        description="Days that Prometheus keeps what it has seen.",
    )
    alert_webhook: SecretStr | None = Field(
        None,
        description="URL to which Alertmanager posts alerts that fire, and that no longer do; by"
        " default nobody is told.",
    )
    otlp_endpoint: str | None = Field(
        None,
        description="URL of a collector, such as http://127.0.0.1:4318, to which `fog up` sends the"
        " log lines of all its parts by OTLP over HTTP; OTEL_EXPORTER_OTLP_HEADERS and its like say"
        " how, and nothing is sent without this setting.",
    )
    log_level: str = Field(
        "info",
        pattern="^(debug|info|warning|error)$",
        description="Least severe log line written: debug, info, warning or error.",
    )
    log_json: bool = Field(
        False,
        description="Write logs as JSON, one object a line; what `fog up` starts always does.",
    )

    @field_validator("host")
    @classmethod
    def _read_host(cls, text: str) -> str:
        try:
            return read_host(text)
        except ConfigError as error:
            raise ValueError(str(error)) from error

    @field_validator("names")
    @classmethod
    def _read_names(cls, text: str) -> str:
        try:
            return ",".join(read_host(name) for name in text.split(",") if name.strip())
        except ConfigError as error:
            raise ValueError(str(error)) from error

    @field_validator("alert_webhook")
    @classmethod
    def _read_webhook(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and _HTTP_URL.fullmatch(url.get_secret_value()) is None:
            raise ValueError("give a URL such as https://example.org/alerts")
        return url

    @field_validator("otlp_endpoint")
    @classmethod
    def _read_collector(cls, url: str | None) -> str | None:
        if url is not None and _HTTP_URL.fullmatch(url) is None:
            raise ValueError("give a URL such as http://127.0.0.1:4318")
        return url

    @field_validator("listen")
    @classmethod
    def _read_listen(cls, text: str | None) -> str | None:
        if text is None:
            return None
        try:
            address = ip_address(text)
        except ValueError as error:
            raise ValueError("give an address of this machine, such as 192.0.2.7") from error
        if address.is_unspecified or address.is_loopback or address.is_multicast:
            raise ValueError("give an address at which other machines reach this one")
        return str(address)

    @property
    def layout(self) -> HomeLayout:
        """The paths below :attr:`home`."""
        return HomeLayout(self.home)

    @property
    def bootstrap(self) -> Path:
        """The bootstrap file in force."""
        return self.net if self.net is not None else self.layout.bootstrap

    @property
    def database(self) -> str | Path:
        """The database in force: a URL where one was given, or the file in the home folder."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return self.layout.database


def variable_of(name: str) -> str:
    """The environment variable from which a setting is read."""
    return RETENTION if name == RETENTION.lower() else f"FOG_{name.upper()}"


def load_settings(**overrides: object) -> Settings:
    """Read the settings; an override of None counts as not given.

    Raises:
        ConfigError: a value is out of its bounds, or is not allowed; the text names the setting.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        settings = Settings.model_validate(given)
    except ValidationError as error:
        raise ConfigError(_explain(error)) from error
    if (settings.tls_cert is None) != (settings.tls_key is None):
        raise ConfigError(
            "setting tls_cert (FOG_TLS_CERT) and setting tls_key (FOG_TLS_KEY) belong together:"
            " give both, or none"
        )
    in_clear = settings.tls_cert is None and not is_loopback(settings.host)
    if in_clear and not settings.allow_remote:
        raise ConfigError(
            f"setting host (FOG_HOST): {settings.host!r} is not loopback, and there is no TLS, so"
            " that keys would travel in clear: give FOG_TLS_CERT and FOG_TLS_KEY, or set"
            " FOG_ALLOW_REMOTE=1 if that is meant"
        )
    if _names_relative_file(settings.database_url):
        raise ConfigError(
            "setting database_url (FOG_DATABASE_URL): the file is named from the current folder,"
            " in which the backend does not run: give its whole path, after four slashes"
        )
    home = usable_home(settings.home)
    blobs = None if settings.blobs is None else whole_path(settings.blobs)
    net = _joined(home) if settings.net is None else whole_path(settings.net)
    files = {name: _file_of_child(name, getattr(settings, name)) for name in _FILES}
    return settings.model_copy(update={"home": home, "net": net, "blobs": blobs, **files})


def _file_of_child(name: str, path: Path | None) -> Path | None:
    """A file that the backend reads, which stands in a folder of its own."""
    if path is None:
        return None
    whole = whole_path(path)
    if whole != path.expanduser():
        raise ConfigError(
            f"setting {name} (FOG_{name.upper()}): the file is named from the current folder, in"
            f" which the backend does not run: give its whole path, such as {whole}"
        )
    return whole


def _joined(home: Path) -> Path | None:
    """The bootstrap file of the network that a home has joined, if it has one of its own."""
    joined = HomeLayout(home).joined
    try:
        joined.lstat()
    except OSError:
        # It is not there; or the home cannot be looked at, which whoever uses it says.
        return None
    return joined


def _names_relative_file(database_url: SecretStr | None) -> bool:
    if database_url is None:
        return False
    scheme, _, file = database_url.get_secret_value().partition(":///")
    return scheme.startswith("sqlite") and file[:1] not in {"", "/", ":", "?"}


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    name = ".".join(str(part) for part in first["loc"]) or "settings"
    name = name.lower()
    where = f"setting {name} ({variable_of(name)})"
    match first["type"]:
        case "value_error":  # that is in our words already
            return f"{where}: {first['msg'].removeprefix('Value error, ')}"
        case "string_pattern_mismatch":
            return f"{where} is not of the form {first['ctx']['pattern']}"
    return f"{where} {flaw_said(first)}"
