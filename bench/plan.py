"""How much is measured, and what a measured value is."""

import msgspec


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured.

    Attributes:
        pairs: how often everything with a counterpart is repeated, all servers in turn. asides: in how many of these
            rounds the peers without a target are measured too, and the large crowds.
        create_s: how long writers write for one figure; where two servers are compared, a quarter of it in each of
            `turns` turns. crowd: subscribers meanwhile. writers: clients at once.
        audiences: subscribers of spaced events; batches go to them too, as far as they are below `batch_to`.
        spaced, rate: events, and events a second. batches: of `batch` records each.
        fast, fast_rate, fast_writers: the same for events that come fast, to `crowd` subscribers.
        open_s, open_rates: creates at a fixed rate, with and without the crowd.
        large, large_rate, large_s: subscribers, events a second and how long; large_spaced: events for their fan-out,
            slow enough that each goes out by itself.
        users: each with a connection of its own, under an owner rule.
        ceiling: numbers of connections; ceiling_rates: events a second, tried in turn for `ceiling_s` each.
        growth: sizes, each a multiple of the first.
        wait_s: how long subscribers may take to hear the last event.
    """

    pairs: int
    create_s: float
    asides: int = 1
    turns: int = 6
    crowd: int = 200
    writers: tuple[int, ...] = (1, 16)
    audiences: tuple[int, ...] = (200, 1000)
    spaced: int = 40
    rate: float = 20
    batches: int = 4
    batch: int = 50
    fast: int = 1000
    fast_rate: float = 500
    fast_writers: int = 8
    open_s: float = 4
    open_rates: tuple[float, ...] = (20, 200)
    large: int = 10_000
    large_rate: float = 20
    large_s: float = 8
    large_spaced: int = 12
    large_batches: int = 2
    users: int = 10_000
    addresses: int = 8
    ceiling: tuple[int, ...] = (1000, 10_000)
    ceiling_rates: tuple[float, ...] = (20, 40, 80, 160, 320, 640)
    ceiling_s: float = 4
    growth: tuple[int, ...] = (500, 1000, 2000, 4000)
    wait_s: float = 30


PLANS = {
    "default": Plan(pairs=3, create_s=1.2, ceiling_rates=(20, 80, 320), ceiling_s=3, growth=(500, 1000, 2000)),
    "full": Plan(pairs=7, asides=3, create_s=2, spaced=200, batches=8, fast=2000, open_s=6, large_s=15),
    "quick": Plan(
        pairs=1,
        create_s=0.8,
        batches=2,
        fast=500,
        open_s=2,
        large=2000,
        large_s=3,
        large_spaced=10,
        users=2000,
        ceiling=(1000,),
        ceiling_rates=(80, 320),
        ceiling_s=2,
        growth=(250, 500, 1000),
    ),
    "tiny": Plan(
        pairs=1,
        create_s=0.2,
        turns=2,
        crowd=5,
        writers=(1, 4),
        audiences=(4,),
        spaced=5,
        rate=50,
        batches=1,
        batch=5,
        fast=50,
        fast_writers=2,
        open_s=0.3,
        open_rates=(50,),
        large=12,
        large_rate=40,
        large_s=0.5,
        large_spaced=4,
        large_batches=1,
        users=12,
        addresses=3,
        ceiling=(6,),
        ceiling_rates=(50,),
        ceiling_s=0.3,
        growth=(4, 8),
        wait_s=10,
    ),
}


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One measured value. `group` is the table it stands in."""

    group: str
    measure: str
    server: str
    unit: str
    value: float
