"""The tables of autopilots."""

from datetime import datetime

from sqlalchemy import JSON, Float, ForeignKey, Index, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from service.store.tables import Base, UtcDateTime


class AutopilotRow(Base):
    """An autopilot."""

    __tablename__ = "autopilots"
    __table_args__ = (
        Index("ix_autopilots_phase_sequence", "phase", "sequence"),
        Index("ix_autopilots_project_sequence", "project", "sequence"),
        Index("ix_autopilots_project_phase_sequence", "project", "phase", "sequence"),
    )

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    sequence: Mapped[int] = mapped_column(Integer, unique=True)
    """Increases with every autopilot; orders lists and pages."""

    name: Mapped[str] = mapped_column(String(200))
    preset: Mapped[str | None] = mapped_column(String(200))
    project: Mapped[str] = mapped_column(String(64))
    priority: Mapped[int] = mapped_column(Integer)
    spec: Mapped[str] = mapped_column(Text)
    phase: Mapped[str] = mapped_column(String(16))
    desired: Mapped[str] = mapped_column(String(16))
    message: Mapped[str] = mapped_column(Text)
    request: Mapped[str | None] = mapped_column(Text)
    notes: Mapped[list[str]] = mapped_column(JSON)
    active_since: Mapped[datetime | None] = mapped_column(UtcDateTime)
    active_s: Mapped[float] = mapped_column(Float)
    created_by: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class AutopilotEntryRow(Base):
    """An entry of an autopilot's history; append-only."""

    __tablename__ = "autopilot_entries"

    autopilot_id: Mapped[str] = mapped_column(ForeignKey("autopilots.id"), primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    document: Mapped[str] = mapped_column(Text)


class AutopilotJobRow(Base):
    """A run of an autopilot; append-only."""

    __tablename__ = "autopilot_jobs"

    autopilot_id: Mapped[str] = mapped_column(ForeignKey("autopilots.id"), primary_key=True)
    key: Mapped[str] = mapped_column(String(250), primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), index=True)
    position: Mapped[int] = mapped_column(Integer)
    first_attempt: Mapped[int] = mapped_column(Integer)
