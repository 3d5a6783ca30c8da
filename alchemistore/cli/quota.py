"""`alchemistore quota`: limits on the tasks of scopes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from alchemistore.cli.options import open_store, scope_option, url_option
from alchemistore.cli.output import ERRORS_ONLY, KEYS_ONLY, Output, output_options

if TYPE_CHECKING:
    from alchemistore.models import Quota


@click.group()
def quota() -> None:
    """Show and set limits on the tasks of scopes."""


def _print(out: Output, found: Quota) -> None:
    fields = {"scope": found.scope, **dict(found)}
    if out.as_json:
        out.json(fields)
    elif not out.quiet:
        nothing = {name: "no limit" for name, value in fields.items() if value is None}
        out.record({**fields, **nothing})


@quota.command("list", short_help="List the limits that were set.")
@url_option
@scope_option
@output_options(KEYS_ONLY)
def list_(out: Output, url: str, scope: str | None) -> None:
    """List the limits that were set, with the scopes that they were set for.

    \b
    Example:
      alchemistore quota list --scope 'my_org-*-*'
    """
    rows = [dict(one) for one in open_store(url).query_quotas(scope)]
    out.table(rows, "scope", "waiting_per_transformation", "actioned_per_hub")


@quota.command(short_help="Show the limits that apply in a scope.")
@click.argument("scope")
@url_option
@output_options(ERRORS_ONLY)
def show(out: Output, url: str, scope: str) -> None:
    """Show the limits that apply in SCOPE, org-campaign-project with '*' for any.

    Each is that of the most specific scope that has one.

    \b
    Example:
      alchemistore quota show my_org-my_campaign-my_project
    """
    _print(out, open_store(url).get_quota(scope))


@quota.command("set")
@click.argument("scope")
@url_option
@click.option(
    "--waiting-per-transformation",
    type=click.IntRange(0),
    help="The largest number of waiting tasks of one transformation.",
)
@click.option(
    "--actioned-per-hub", type=click.IntRange(0), help="The largest number of tasks on one hub."
)
@output_options(ERRORS_ONLY)
def set_(
    out: Output,
    url: str,
    scope: str,
    waiting_per_transformation: int | None,
    actioned_per_hub: int | None,
) -> None:
    """Set the limits of SCOPE, in place of those set for it before.

    A limit that is not given is that of the next broader scope. Tasks beyond a limit stay. Prints
    the limits that apply now.

    \b
    Examples:
      alchemistore quota set 'my_org-*-*' --actioned-per-hub 10000
      alchemistore quota set 'my_org-*-*'      # no limits of its own
    """
    _print(out, open_store(url).set_quota(scope, waiting_per_transformation, actioned_per_hub))
