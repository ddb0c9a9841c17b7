"""Settings from environment variables with the prefix TANDEM_; read by `main` and `cli`."""

from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from configs.addresses import bracket_host, is_loopback, parse_web_address, sqlite_url
from service.domain.retention import RetentionPolicy, RunRetention

LogFormat = Literal["console", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

_WILDCARD_HOSTS = frozenset({"0.0.0.0", "::"})
Seconds = Annotated[float, Field(gt=0)]


class NodeShape(BaseModel):
    """Resources and number of equal nodes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cpus: Annotated[float, Field(gt=0)]
    gpus: Annotated[float, Field(ge=0)] = 0
    count: Annotated[int, Field(ge=1, le=10_000)] = 1


def _parse_never(value: object) -> object:
    return None if value == "never" else value


RetentionDays = Annotated[
    Annotated[float, Field(gt=0, le=36_500)] | None, BeforeValidator(_parse_never)
]
"""A number of days, or `never`."""


class ProjectRetention(BaseModel):
    """What a project keeps longer or shorter than others; fields that are not set do not differ."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    events_days: RetentionDays = None
    metrics_days: RetentionDays = None
    logs_days: RetentionDays = None
    checkpoints_days: RetentionDays = None
    folders_days: RetentionDays = None
    spools_days: RetentionDays = None


class Settings(BaseSettings):
    """Settings of the service; `.env.example` lists them with their defaults."""

    model_config = SettingsConfigDict(
        env_prefix="TANDEM_", frozen=True, extra="ignore", hide_input_in_errors=True
    )

    home: Path = Path("~/.tandem")
    """Database, runs, datasets, teachers and logs of the local stack."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8700
    ray_url: str = "http://127.0.0.1:8265"
    ray_token_file: Path | None = None
    """File with Ray's authentication token; `None` uses the file of the local stack, if any."""

    ray_token: SecretStr | None = None
    """Ray's authentication token; takes precedence over the file."""

    mlflow_url: str = "http://127.0.0.1:5500"
    mlflow_public_url: str | None = None
    """Where browsers open MLflow; `None` uses `mlflow_url`."""

    database_url: Annotated[str | None, Field(repr=False)] = None
    """URL of SQLite or PostgreSQL, with the password; `None` uses SQLite in `home`."""

    public_url: str | None = None
    """Where workers reach this service; `None` uses the address it listens on."""

    auth: Literal["off", "tokens"] = "off"
    """Whether every request needs a token; `off` is allowed only on loopback addresses."""

    admin_token: SecretStr | None = None
    """An admin token that is valid while it is set: for containers."""

    viewer_token: SecretStr | None = None
    """A viewer token that is valid while it is set: for Prometheus."""

    secret_file: Path | None = None
    """File with the key that signs workers' tokens; `None` uses `secret` in `home`."""

    token: SecretStr | None = None
    """The token with which the command line authenticates."""

    token_file: Path = Path("~/.config/tandem/token")
    """File with that token; used if `token` is not set."""

    log_format: LogFormat = "console"
    """`console` for people, `json` for programs."""

    log_level: LogLevel = "info"
    otel_endpoint: str | None = None
    """Endpoint for traces (OTLP over HTTP); `None` disables tracing."""

    rate_limit: str = "1200/minute"
    """Limit of requests per token, or per address while access control is off."""

    refusal_limit: str = "30/minute"
    """Limit of unauthenticated requests per address."""

    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    """Addresses and networks of the proxies whose `X-Forwarded-For` is used."""

    max_connections: Annotated[int, Field(ge=16, le=100_000)] = 4096
    """Connections to the API at a time; further ones are answered 503."""

    allowed_roots: tuple[Path, ...] = ()
    """Folders outside of `home` from which datasets and teachers may be registered."""

    job_environment: tuple[str, ...] = ()
    """Names of further environment variables that `tandem up` passes to Ray and its jobs."""

    max_attempts: Annotated[int, Field(ge=1)] = 3
    """A run fails after this many consecutive failed attempts without progress."""

    backfill_timeout_s: Seconds = 120.0
    """How long smaller runs may overtake a waiting run before capacity is reserved for it."""

    autoscales_to: tuple[NodeShape, ...] = ()
    """Nodes of the cluster at its largest size, as JSON; empty without autoscaling."""

    gpu_hour_price: Annotated[float, Field(ge=0.0)] | None = None
    """Price of one GPU hour, in any currency, for cost estimates of sweeps."""

    cpu_hour_price: Annotated[float, Field(ge=0.0)] | None = None
    """Price of one core hour, for cost estimates of sweeps without GPUs."""

    retention_events_days: RetentionDays = None
    """Days after the end of a run until its events are deleted; `never` keeps them."""

    retention_metrics_days: RetentionDays = None
    """As the setting above, for its metric values in the database; MLflow keeps its own."""

    retention_logs_days: RetentionDays = None
    retention_checkpoints_days: RetentionDays = None
    """Not of runs that others refer to, as a teacher, a baseline or in a report."""

    retention_folders_days: RetentionDays = None
    """Whole folders of runs, again without those that others refer to."""

    retention_spools_days: RetentionDays = 7.0
    """Delivered records of runs that succeeded."""

    retention_projects: dict[str, ProjectRetention] = Field(default_factory=dict)
    """Projects that differ from the settings above, as JSON."""

    retention_idempotency_keys_days: RetentionDays = 30.0
    """Days after the end of the run or sweep that a key launched."""

    retention_tokens_days: RetentionDays = 90.0
    """Days after a token was revoked or has expired."""

    retention_audit_days: RetentionDays = None
    retention_ray_jobs_days: RetentionDays = 7.0
    """Days after the end of a job until it is removed from Ray's table."""

    poll_interval_s: Seconds = 1.0
    stall_timeout_s: Seconds = 300.0
    lost_timeout_s: Seconds = 90.0
    """An attempt that Ray does not know is lost after this long without a heartbeat."""

    stop_grace_s: Seconds = 30.0

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Without the sources of files: looking in none takes as long as reading the variables."""
        return init_settings, env_settings

    @field_validator("home")
    @classmethod
    def _resolve_home(cls, home: Path) -> Path:
        """Refuse a path that no spec and no address can contain."""
        try:
            path = home.expanduser().resolve()
        except RuntimeError as error:
            raise ValueError(f"{error}; set TANDEM_HOME to a folder, or HOME") from error
        try:
            str(path).encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"the name of the folder {path!a} is not UTF-8; rename it") from error
        return path

    @field_validator("host")
    @classmethod
    def _strip_brackets(cls, host: str) -> str:
        return host.strip().removeprefix("[").removesuffix("]")

    @field_validator("database_url")
    @classmethod
    def _normalize_database_url(cls, url: str | None) -> str | None:
        """Add SQLAlchemy's driver; errors omit the URL, because it contains a password."""
        if url is None:
            return None
        scheme, _, location = url.partition("://")
        if scheme in {"postgres", "postgresql"}:
            scheme = "postgresql+psycopg"
        if scheme not in {"postgresql+psycopg", "sqlite"} or not location:
            raise ValueError(
                "it must be sqlite:/// with a path, or "
                "postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
            )
        if scheme != "sqlite" and not _has_valid_address(location):
            raise ValueError(
                "its host or port cannot be parsed; in a password write @ as %40, "
                ": as %3A, / as %2F and % as %25"
            )
        return f"{scheme}://{location}"

    @field_validator("admin_token", "viewer_token")
    @classmethod
    def _check_token(cls, token: SecretStr | None) -> SecretStr | None:
        if token is None:
            return None
        from service.domain.access import parse_token

        if parse_token(token.get_secret_value()) is None:
            raise ValueError(
                "it is not a token of Tandem: tdm_, 10 hexadecimal digits, _ and 43 random letters "
                "and digits; docker/new-env.sh generates one"
            )
        return token

    @field_validator("ray_url", "mlflow_url", "public_url", "mlflow_public_url")
    @classmethod
    def _check_web_address(cls, url: str | None) -> str | None:
        if url is None:
            return None
        try:
            parse_web_address(url)
        except ValueError as error:
            raise ValueError(
                "it must be a web address, such as http://head:8700 or https://tandem.lab"
            ) from error
        return url.strip()

    @field_validator("rate_limit", "refusal_limit")
    @classmethod
    def _check_rate(cls, rate: str, info: ValidationInfo) -> str:
        if info.field_name and rate == cls.model_fields[info.field_name].default:
            return rate
        from limits import parse

        try:
            parse(rate)
        except ValueError as error:
            raise ValueError(f"{rate!r} is not a rate; write it as 600/minute") from error
        return rate

    @model_validator(mode="after")
    def _check_network_access(self) -> Self:
        public_host = urlsplit(self.service_url).hostname or self.host
        if self.auth == "off" and not (is_loopback(self.host) and is_loopback(public_host)):
            raise ValueError(
                f"other machines could reach the API ({self.host}, {public_host}) while access "
                "control is off; set TANDEM_AUTH=tokens and create a token with "
                "`tandem tokens create NAME --role admin`, or set TANDEM_HOST=127.0.0.1"
            )
        if self.host in _WILDCARD_HOSTS and self.public_url is None:
            raise ValueError(
                f"TANDEM_HOST={self.host} listens on all interfaces, but workers cannot send to "
                "it; set TANDEM_PUBLIC_URL to the address at which they reach this machine"
            )
        return self

    @property
    def url(self) -> str:
        """Local base URL of the service."""
        return f"http://{bracket_host(self.host)}:{self.port}"

    @property
    def allowed_hosts(self) -> frozenset[str]:
        """Allowed values of a request's Host header."""
        public_host = urlsplit(self.service_url).hostname or self.host
        return frozenset({"127.0.0.1", "::1", "localhost", self.host, public_host})

    @property
    def service_url(self) -> str:
        """Base URL at which workers reach the service."""
        return self.public_url or self.url

    @property
    def has_local_ray(self) -> bool:
        """Whether Ray's head is on this machine."""
        return is_loopback(parse_web_address(self.ray_url).host)

    @property
    def sqlalchemy_url(self) -> str:
        """URL of the database, as SQLAlchemy expects it."""
        return self.database_url or sqlite_url(self.home / "tandem.db")

    @property
    def database_side_files(self) -> dict[str, Path]:
        """Files that belong to the database, by the name under which a backup contains them."""
        return {"secret": self.signing_key_file}

    @property
    def runs_dir(self) -> Path:
        """Parent of the folders of runs."""
        return self.home / "runs"

    @property
    def sweeps_dir(self) -> Path:
        """Parent of the folders of sweeps."""
        return self.home / "sweeps"

    @property
    def ray_token_path(self) -> Path:
        """File with Ray's token: the configured one, else that of the local stack."""
        return self.ray_token_file or self.home / "ray" / "token"

    @property
    def signing_key_file(self) -> Path:
        """File with the key that signs workers' tokens."""
        return self.secret_file or self.home / "secret"

    @property
    def logs_dir(self) -> Path:
        """Folder for the uploaded logs of attempts."""
        return self.home / "logs-of-runs"

    @property
    def datasets_dir(self) -> Path:
        """Where `tandem data` writes datasets."""
        return self.home / "datasets"

    @property
    def teachers_dir(self) -> Path:
        """Folder for the teachers of the catalog."""
        return self.home / "teachers"

    @property
    def retention_policy(self) -> RetentionPolicy:
        """How long things are kept."""
        runs = RunRetention(
            events_days=self.retention_events_days,
            metrics_days=self.retention_metrics_days,
            logs_days=self.retention_logs_days,
            checkpoints_days=self.retention_checkpoints_days,
            folders_days=self.retention_folders_days,
            spools_days=self.retention_spools_days,
        )
        return RetentionPolicy(
            runs=runs,
            projects={
                name: replace(runs, **project.model_dump(exclude_unset=True))
                for name, project in self.retention_projects.items()
            },
            idempotency_keys_days=self.retention_idempotency_keys_days,
            tokens_days=self.retention_tokens_days,
            audit_days=self.retention_audit_days,
            ray_jobs_days=self.retention_ray_jobs_days,
        )

    @property
    def registry_roots(self) -> tuple[Path, ...]:
        """Folders that may contain registered datasets and teachers."""
        return (self.home, *(root.expanduser().resolve() for root in self.allowed_roots))


def _has_valid_address(location: str) -> bool:
    try:
        parts = urlsplit(f"any://{location}")
        port = parts.port
    except ValueError:
        return False
    return (port is None or port > 0) and parts.netloc.count("@") <= 1 and "@" not in parts.path
