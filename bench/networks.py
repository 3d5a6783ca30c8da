"""Networks in and out of the store, against what gufe itself needs to encode and decode them.

The measured side is a whole call: encode and store durably what is missing, or fetch and decode.
The reference is gufe's conversion of a network to JSON text in memory and back, by its keyed chain,
as in `to_json` and `from_json` of gufe 1.x, without compression, transfer or storage. gufe 0.4 has
no keyed chain, so the benchmark builds one from gufe's keyed dict of each object.
"""

from __future__ import annotations

import gc
import json
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import gufe
from gufe import tokenization

from alchemistore import Scope, ScopedKey, StateStore, gufe_adapter
from bench.run import Run
from bench.servers import opened
from bench.star import star
from bench.timing import BenchError, Measure, Target, alternate, clocked, compare
from harmonic.protocol import HarmonicProtocol, HarmonicSettings

# gufe has no types.
Network: TypeAlias = Any
TARGET = Target(1.5)
ASSEMBLY_TARGET = Target(1.2)
ENCODER, DECODER = tokenization.JSON_HANDLER.encoder, tokenization.JSON_HANDLER.decoder
# gufe 0.4 has no chain of its own.
KeyedChain = getattr(tokenization, "KeyedChain", None)


def networks(run: Run) -> list[Measure]:
    """Measure made-up networks of two sizes, and the one in a file if one is given."""
    sources: dict[str, Callable[[], Network]] = {
        f"{size:,} transformations": partial(star, size, "star")
        for size in (50, run.size(2_000, 200))
    }
    if run.chain is not None:
        sources[run.chain.name] = partial(read, run.chain)
    measures: list[Measure] = []
    with run.server.database() as url, opened(url) as store:
        for name, make in sources.items():
            measures += _of(run, store, name, make)
    return measures


def large(run: Run) -> list[Measure]:
    """Measure a network that is ten times larger: the time for each transformation, the memory."""
    small, size = run.size(2_000, 100), run.size(20_000, 1_000)
    rounds = run.size(5, 2)
    with run.server.database() as url, opened(url) as store:
        sizes = {f"{count:,}": star(count, f"star of {count}") for count in (size, small)}
        # Later calls use memory that earlier ones have freed.
        grown = _growth(lambda: store.create_network(sizes[f"{size:,}"], new_scope()))
        contestants = {
            name: partial(_per_transformation, store, network, len(network.edges))
            for name, network in sizes.items()
        }
        with run.step(f"create_network, {size:,} transformations", rounds + 1) as advance:
            found = alternate(contestants, rounds, warmup=1, advance=lambda: advance(1))
    return [
        compare(
            f"create_network, each of {size:,} transformations, against {small:,}",
            found,
            target=Target(1.5),
            unit="ms",
            note="each time into a new scope",
        ),
        Measure(
            f"memory of create_network, {size:,} transformations (MB)",
            grown / 1e6,
            form="amount",
            target=Target(180),
            note="growth of the most resident memory during the call; the network is there before",
        ),
    ]


def _per_transformation(store: StateStore, network: Network, count: int) -> float:
    return clocked(lambda: store.create_network(network, new_scope())) / count


def _growth(action: Callable[[], object]) -> int:
    """Return by how much the most memory of this process grows meanwhile, in bytes."""
    gc.collect()
    # Linux then forgets the most memory so far.
    Path("/proc/self/clear_refs").write_text("5")
    before = _most_memory()
    action()
    return _most_memory() - before


def _most_memory() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


def read(path: Path) -> Network:
    """Read a network from a keyed chain, or make a star of the molecules of an SDF file."""
    if path.suffix.lower() == ".sdf":
        from rdkit.Chem import SDMolSupplier

        molecules = [
            gufe.SmallMoleculeComponent(found)
            for found in SDMolSupplier(str(path), removeHs=False)
            if found is not None
        ]
        if len(molecules) < 2:
            raise BenchError(f"{path} has fewer than two molecules that RDKit can read")
        systems = [
            gufe.ChemicalSystem({"ligand": one, "solvent": gufe.SolventComponent()})
            for one in molecules
        ]
        edges = [
            gufe.Transformation(systems[0], one, HarmonicProtocol(HarmonicSettings()))
            for one in systems[1:]
        ]
        return gufe.AlchemicalNetwork(edges, name=path.name)
    chain = json.loads(path.read_text())
    documents = gufe_adapter.read_chain(chain, lambda keys: frozenset())
    return gufe_adapter.decode(
        documents[-1].key, {document.key: document.data for document in documents}
    )


def _of(run: Run, store: StateStore, name: str, make: Callable[[], Network]) -> list[Measure]:
    rounds = run.size(15, 2)
    with run.step(f"create_network, {name}", rounds + 1) as advance:
        created, key, text = _create(store, make(), rounds, lambda: advance(1))

    def cold(build: Callable[[], Network]) -> float:
        gc.collect()
        if gufe_adapter.cached(key.gufe_key) is not None:
            raise BenchError(
                "the network is still in memory, so that reading it would measure nothing"
            )
        return clocked(build)

    contestants = {
        "get_gufe": partial(cold, lambda: store.get_gufe(key)),
        "gufe decodes": partial(cold, lambda: decode(text)),
    }
    with run.step(f"get_gufe, {name}", rounds + 1) as advance:
        got = alternate(contestants, rounds, warmup=1, advance=lambda: advance(1))
    chain = "KeyedChain" if KeyedChain else "to_keyed_dict and from_keyed_dict of each object"
    note = (
        f"{len(json.loads(text)):,} objects, {len(text) / 1e6:.2f} MB of JSON;"
        " each time into a new scope;"
        f" gufe {gufe_adapter.gufe_version()} with its {chain} and its JSON"
    )
    cold_note = "nothing of it in memory before"
    with run.step(f"assemble_network, {name}", rounds + 1) as advance:
        assembled = _assemble(store, make(), rounds, lambda: advance(1))

    return [
        compare(
            f"create_network, {name}, against gufe's encoding",
            created,
            target=TARGET,
            unit="ms",
            note=note,
        ),
        compare(
            f"assemble_network, {name}, against create_network",
            assembled,
            target=ASSEMBLY_TARGET,
            unit="ms",
            note="with hub, mark and a remembered answer; each time into a new scope",
        ),
        compare(
            f"get_gufe, {name}, against gufe's decoding",
            got,
            target=TARGET,
            unit="ms",
            note=cold_note,
        ),
    ]


def _create(
    store: StateStore, network: Network, rounds: int, advance: Callable[[], None]
) -> tuple[dict[str, list[float]], ScopedKey, str]:
    contestants = {
        "create_network": lambda: clocked(lambda: store.create_network(network, new_scope())),
        "gufe encodes": lambda: clocked(lambda: encode(network)),
    }
    created = alternate(contestants, rounds, warmup=1, advance=advance)
    return created, store.create_network(network, new_scope()), encode(network)


def _assemble(
    store: StateStore, network: Network, rounds: int, advance: Callable[[], None]
) -> dict[str, list[float]]:
    contestants = {
        "assemble_network": lambda: clocked(lambda: store.assemble_network(network, new_scope())),
        "create_network": lambda: clocked(lambda: store.create_network(network, new_scope())),
    }
    return alternate(contestants, rounds, warmup=1, advance=advance)


def encode(network: Network) -> str:
    """Return the JSON text of a network, written by gufe."""
    chain = (
        KeyedChain.from_gufe(network)
        if KeyedChain
        else [(part.key, part.to_keyed_dict()) for part in _parts(network)]
    )
    return json.dumps(list(chain), cls=ENCODER)


def _parts(network: Network) -> list[Any]:
    """Find all objects in a network, children first, in gufe's own way of looking for them."""
    found: dict[str, Any] = {}

    def visit(part: Any) -> None:
        if part.key not in found:
            tokenization.modify_dependencies(
                part.to_shallow_dict(), visit, tokenization.is_gufe_obj, mode="encode"
            )
            found[part.key] = part

    visit(network)
    return list(found.values())


def decode(text: str) -> Network:
    """Return the network of a JSON text, read by gufe."""
    chain = json.loads(text, cls=DECODER)
    if KeyedChain:
        return KeyedChain.from_keyed_chain_rep(chain).to_gufe()
    # The registry of gufe holds nothing fast, and what is made must live until it is referred to.
    return [tokenization.GufeTokenizable.from_keyed_dict(content) for _, content in chain][-1]


def new_scope() -> Scope:
    """Return a scope that is not used yet."""
    return Scope("bench", "bench", f"p{uuid.uuid4().hex}")
