"""The states and leases of the strategies of networks."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, PrimaryKeyConstraint, Text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from alchemistore.models import StrategyModeEnum, StrategyStatusEnum, StrategyTaskScalingEnum
from alchemistore.tables.base import Base, CText, one_of


class NetworkStrategyRow(Base):
    """The state of the strategy of a network, and the lease of the strategist that executes it.

    The strategy itself is a column of the network. The row stays when the strategy is removed, so
    that its lease is not forgotten.
    """

    __tablename__ = "network_strategies"
    __table_args__ = (
        PrimaryKeyConstraint("scope_id", "network"),
        ForeignKeyConstraint(
            ["scope_id", "network"], ["networks.scope_id", "networks.token"], ondelete="CASCADE"
        ),
        one_of("mode", StrategyModeEnum),
        one_of("status", StrategyStatusEnum),
        one_of("task_scaling", StrategyTaskScalingEnum),
        CheckConstraint("iterations >= 0", name="iterations"),
        CheckConstraint("sleep_interval > 0", name="sleep_interval"),
        CheckConstraint("last_iteration_result_count >= 0", name="last_iteration_result_count"),
        CheckConstraint("max_tasks_per_transformation > 0", name="max_tasks_per_transformation"),
        CheckConstraint("cardinality(exception) = 2", name="exception"),
        CheckConstraint("lease_ends_at IS NULL OR lease IS NOT NULL", name="lease"),
        CheckConstraint("(leased_state IS NULL) = (lease_ends_at IS NULL)", name="leased_state"),
    )

    scope_id: Mapped[int]
    network: Mapped[UUID]
    set_at: Mapped[datetime]
    mode: Mapped[CText]
    status: Mapped[CText]
    iterations: Mapped[int]
    sleep_interval: Mapped[int]
    last_iteration_at: Mapped[datetime | None]
    last_iteration_result_count: Mapped[int]
    max_tasks_per_transformation: Mapped[int]
    task_scaling: Mapped[CText]
    exception: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    traceback: Mapped[str | None]
    # The last lease that was given; it is over if it has no end.
    lease: Mapped[UUID | None]
    lease_ends_at: Mapped[datetime | None]
    # The state that was given out with the lease, as JSON.
    leased_state: Mapped[str | None]
    # Whether the strategy was set since the lease was given.
    set_since_lease: Mapped[bool]
