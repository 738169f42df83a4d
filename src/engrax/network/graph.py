"""The order in which populations run: strongly connected components, topologically sorted."""

import graphlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..errors import NetworkError


class Edge(NamedTuple):
    """A projection as the graph sees it."""

    key: str
    pre: str
    post: str
    delay: int


def components(nodes: Sequence[str], edges: Iterable[tuple[str, str]]) -> tuple[tuple[str, ...], ...]:
    """Strongly connected components in topological order; nodes keep the given order inside each.

    Args:
        nodes: names, in the order ties are broken by.
        edges: (pre, post) pairs; pairs with a name outside `nodes` are ignored.
    """
    after: dict[str, set[str]] = {n: set() for n in nodes}
    for pre, post in edges:
        if pre in after and post in after:
            after[pre].add(post)

    def reachable(start: str) -> set[str]:
        seen: set[str] = set()
        stack = [start]
        while stack:
            for following in after[stack.pop()] - seen:
                seen.add(following)
                stack.append(following)
        return seen

    reach = {n: reachable(n) for n in nodes}
    member: dict[str, tuple[str, ...]] = {}
    for n in nodes:
        if n not in member:
            group = tuple(m for m in nodes if m == n or (m in reach[n] and n in reach[m]))
            member.update(dict.fromkeys(group, group))
    # Lists, not sets: the order must not depend on how this process hashes strings.
    before: dict[tuple[str, ...], list[tuple[str, ...]]] = {group: [] for group in member.values()}
    for pre in nodes:
        for post in nodes:
            if post in after[pre] and member[pre] != member[post]:
                before[member[post]].append(member[pre])
    return tuple(graphlib.TopologicalSorter(before).static_order())


def order_within_step(nodes: Sequence[str], edges: Iterable[Edge]) -> tuple[str, ...]:
    """Nodes sorted so that every edge without delay runs forward.

    Raises:
        NetworkError: edges without delay form a cycle; the message names it.
    """
    before: dict[str, list[str]] = {n: [] for n in nodes}
    for edge in edges:
        if edge.delay == 0 and edge.pre in before and edge.post in before:
            before[edge.post].append(edge.pre)
    try:
        order = tuple(graphlib.TopologicalSorter(before).static_order())
    except graphlib.CycleError as error:
        cycle = " -> ".join(error.args[1])
        raise NetworkError(
            f"cycle within a step: {cycle}. Give one of these projections a delay of at least 1."
        ) from None
    return order
