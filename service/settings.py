"""What can be set from outside: variables that begin with TANDEM_. Read by main and cli."""

import ipaddress
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from limits import parse
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.domain.access import parse_token
from service.log import LogFormat, LogLevel

_EVERYWHERE = frozenset({"0.0.0.0", "::"})
Seconds = Annotated[float, Field(gt=0)]


class NodeShape(BaseModel):
    """Nodes of one kind."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cpus: Annotated[float, Field(gt=0)]
    gpus: Annotated[float, Field(ge=0)] = 0
    count: Annotated[int, Field(ge=1, le=10_000)] = 1


class Settings(BaseSettings):
    """The service's settings; `.env.example` shows each with its default."""

    model_config = SettingsConfigDict(
        env_prefix="TANDEM_", frozen=True, extra="ignore", hide_input_in_errors=True
    )

    home: Path = Path("~/.tandem")
    """Database, runs, datasets, teachers and logs of the local stack."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8700
    ray_url: str = "http://127.0.0.1:8265"
    ray_token_file: Path | None = None
    """A file with Ray's authentication token; none if Ray's authentication is off."""

    ray_token: SecretStr | None = None
    """That token itself, where there is no file."""

    mlflow_url: str = "http://127.0.0.1:5500"
    mlflow_public_url: str | None = None
    """Where people open MLflow; by default the address that service and workers use."""

    database_url: Annotated[str | None, Field(repr=False)] = None
    """SQLite's or PostgreSQL's, with its password; none: SQLite in `home`."""

    public_url: str | None = None
    """Where workers reach this service; by default the address it listens on."""

    auth: Literal["off", "tokens"] = "off"
    """Whether every request needs a token; off only on this machine."""

    admin_token: SecretStr | None = None
    """A token of role admin that is good as long as it is set: for containers."""

    viewer_token: SecretStr | None = None
    """The same of role viewer, for Prometheus."""

    secret_file: Path | None = None
    """The key that workers' tokens are made with; by default `secret` in `home`."""

    token: SecretStr | None = None
    """What the command line shows to the service."""

    token_file: Path = Path("~/.config/tandem/token")
    """A file with that token, if it is not given itself."""

    log_format: LogFormat = "console"
    """For people, or `json` for programs."""

    log_level: LogLevel = "info"
    otel_endpoint: str | None = None
    """Where traces go (OTLP over HTTP); none: there are none."""

    rate_limit: str = "1200/minute"
    """Requests of one token, or of one address where access control is off."""

    refusal_limit: str = "30/minute"
    """Requests of one address without a good token."""

    allowed_roots: tuple[Path, ...] = ()
    """Folders beside `home` that datasets and teachers may be registered from."""

    max_attempts: Annotated[int, Field(ge=1)] = 3
    """Bad ends in a row, without progress, after which a run has failed."""

    backfill_timeout_s: Seconds = 120.0
    """How long a run in the queue lets smaller ones pass before room is held for it."""

    autoscales_to: tuple[NodeShape, ...] = ()
    """Nodes that the cluster has when it is largest, as JSON; empty: no more than there are."""

    gpu_hour_price: Annotated[float, Field(ge=0.0)] | None = None
    """What a GPU's hour costs, in whatever currency: sweeps are told their price."""

    cpu_hour_price: Annotated[float, Field(ge=0.0)] | None = None
    """What a core's hour costs, for sweeps without GPUs."""

    poll_interval_s: Seconds = 1.0
    stall_timeout_s: Seconds = 300.0
    lost_timeout_s: Seconds = 90.0
    """Silence after which an attempt that Ray does not know counts as lost."""

    stop_grace_s: Seconds = 30.0

    @field_validator("home")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        return home.expanduser().resolve()

    @field_validator("database_url")
    @classmethod
    def _with_driver(cls, url: str | None) -> str | None:
        """As SQLAlchemy wants it; what is wrong is said without the URL, which has a password."""
        if url is None:
            return None
        scheme, _, rest = url.partition("://")
        if scheme in {"postgres", "postgresql"}:
            scheme = "postgresql+psycopg"
        if scheme not in {"postgresql+psycopg", "sqlite"} or not rest:
            raise ValueError(
                "it begins with sqlite:/// and a path, or is "
                "postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
            )
        if scheme != "sqlite" and not _is_address(rest):
            raise ValueError(
                "it has no host or port that can be read; in a password write @ as %40, "
                ": as %3A, / as %2F and % as %25"
            )
        return f"{scheme}://{rest}"

    @field_validator("admin_token", "viewer_token")
    @classmethod
    def _is_token(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and parse_token(token.get_secret_value()) is None:
            raise ValueError(
                "it is no token of Tandem's: that is tdm_, 10 hexadecimal digits, _ and 43 letters "
                "and digits drawn by chance; docker/new-env.sh writes one"
            )
        return token

    @field_validator("public_url", "mlflow_public_url")
    @classmethod
    def _is_web_address(cls, url: str | None) -> str | None:
        if url is not None and not (
            url.startswith(("http://", "https://")) and urlsplit(url).hostname
        ):
            raise ValueError("it is a web address, as in http://head:8700 or https://tandem.lab")
        return url

    @field_validator("rate_limit", "refusal_limit")
    @classmethod
    def _is_a_rate(cls, rate: str) -> str:
        try:
            parse(rate)
        except ValueError as error:
            raise ValueError(f"{rate!r} is no rate; write it as 600/minute") from error
        return rate

    @model_validator(mode="after")
    def _others_need_tokens(self) -> Self:
        public = urlsplit(self.service_url).hostname or self.host
        if self.auth == "off" and not (_is_loopback(self.host) and _is_loopback(public)):
            raise ValueError(
                f"the API would be reached from other machines ({self.host}, {public}), and access "
                "control is off; set TANDEM_AUTH=tokens and make a token for yourself with "
                "`tandem token create NAME --role admin`, or set TANDEM_HOST=127.0.0.1"
            )
        if self.host in _EVERYWHERE and self.public_url is None:
            raise ValueError(
                f"TANDEM_HOST={self.host} listens everywhere, but is no address that workers could "
                "report to; set TANDEM_PUBLIC_URL to how they reach this machine"
            )
        return self

    @property
    def url(self) -> str:
        """The service's own address."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def allowed_hosts(self) -> frozenset[str]:
        """Names that a request may call this service by."""
        public = urlsplit(self.service_url).hostname or self.host
        return frozenset({"127.0.0.1", "::1", "localhost", self.host, public})

    @property
    def service_url(self) -> str:
        """Where workers deliver their records."""
        return self.public_url or self.url

    @property
    def sqlalchemy_url(self) -> str:
        """The database's URL."""
        return self.database_url or f"sqlite:///{self.home / 'tandem.db'}"

    @property
    def database_side_files(self) -> dict[str, Path]:
        """Small files without which the database is not whole: a backup takes them along."""
        return {"secret": self.signing_key_file}

    @property
    def runs_dir(self) -> Path:
        """One folder per run."""
        return self.home / "runs"

    @property
    def sweeps_dir(self) -> Path:
        """One folder per sweep."""
        return self.home / "sweeps"

    @property
    def ray_token_path(self) -> Path:
        """The file with Ray's token: the one that is named, else that of the local stack."""
        return self.ray_token_file or self.home / "ray" / "token"

    @property
    def signing_key_file(self) -> Path:
        """Where the key lies that workers' tokens are made with."""
        return self.secret_file or self.home / "secret"

    @property
    def logs_dir(self) -> Path:
        """Logs of all attempts, as their workers bring them."""
        return self.home / "logs-of-runs"

    @property
    def datasets_dir(self) -> Path:
        """Where `tandem data` writes."""
        return self.home / "datasets"

    @property
    def teachers_dir(self) -> Path:
        """Teachers that came with Tandem."""
        return self.home / "teachers"

    @property
    def registry_roots(self) -> tuple[Path, ...]:
        """Every folder that registered paths may lie in."""
        return (self.home, *(root.expanduser().resolve() for root in self.allowed_roots))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_address(rest: str) -> bool:
    try:
        parts = urlsplit(f"any://{rest}")
        port = parts.port
    except ValueError:
        return False
    return (port is None or port > 0) and parts.netloc.count("@") <= 1 and "@" not in parts.path
