"""The imports of the app, read with `ast`: they point one way, and what decides does no I/O."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
SHIPPED: Final = ("function_app.py", "rotation", "shared")
NOT_SHIPPED: Final = ("local", "tests", "bench", "infra", "docs")

PURE: Final = {
    "rotation.alert_formats",
    "rotation.alerting",
    "rotation.audit",
    "rotation.bundle",
    "rotation.calendar",
    "rotation.checkpoint",
    "rotation.dek",
    "rotation.envelope",
    "rotation.expiry",
    "rotation.fields",
    "rotation.icalendar",
    "rotation.intents",
    "rotation.inventory",
    "rotation.kek",
    "rotation.lifecycle",
    "rotation.manifest",
    "rotation.merkle",
    "rotation.message",
    "rotation.progress",
    "rotation.proof",
    "rotation.quota",
    "rotation.renewal",
    "rotation.rewrap",
    "rotation.schedule",
    "rotation.secret",
    "rotation.secret_progress",
    "rotation.streams",
    "rotation.tasks",
    "rotation.timestamp",
    "rotation.upcoming",
    "rotation.webhook",
    "rotation.wrapping",
    "rotation.xaes",
    "shared.errors",
    "shared.ports",
    "shared.values",
}
"""What decides: values and `now` in, a plan out."""
NEARLY_PURE: Final = {"rotation.catalog": {"pathlib"}}
"""The same, with what else they may import: the catalog reads its one file."""
DOING: Final = {
    "rotation.__main__",
    "rotation.alert_job",
    "rotation.audit_job",
    "rotation.budgeted_keks",
    "rotation.checkpoint_job",
    "rotation.commands",
    "rotation.commands.alerts",
    "rotation.commands.asking",
    "rotation.commands.audit_list",
    "rotation.commands.audit_proof",
    "rotation.commands.calendar",
    "rotation.commands.grammar",
    "rotation.commands.inventory",
    "rotation.commands.kek_history",
    "rotation.commands.kek_orders",
    "rotation.commands.kek_plan",
    "rotation.commands.kek_status",
    "rotation.commands.letters",
    "rotation.commands.policies",
    "rotation.commands.ports",
    "rotation.commands.secret_drop",
    "rotation.commands.secret_orders",
    "rotation.commands.secret_plan",
    "rotation.commands.secret_status",
    "rotation.commands.tables",
    "rotation.commands.tenants",
    "rotation.comparison",
    "rotation.dek_job",
    "rotation.ended_causes",
    "rotation.evidence_files",
    "rotation.evidence_job",
    "rotation.expiry_job",
    "rotation.health",
    "rotation.in_turn",
    "rotation.intents_job",
    "rotation.inventory_scan",
    "rotation.kek_job",
    "rotation.key_cache",
    "rotation.planner_job",
    "rotation.primary_kek",
    "rotation.repeats",
    "rotation.rewrap_job",
    "rotation.scan_job",
    "rotation.secret_job",
    "rotation.secret_planner_job",
    "rotation.secret_versions",
    "rotation.sweep_job",
    "rotation.tenant_cipher",
    "rotation.trail",
    "rotation.use_reports",
    "rotation.vault_budget",
    "rotation.verification",
    "rotation.webhook_secrets",
    "rotation.worker",
}
"""What carries plans out, through ports. A new module is put into one of these lists, on purpose."""

NO_IO: Final = {
    "__future__",
    "base64",
    "binascii",
    "collections",
    "contextlib",
    "cryptography",
    "dataclasses",
    "datetime",
    "enum",
    "functools",
    "hashlib",
    "hmac",
    "itertools",
    "json",
    "msgspec",
    "re",
    "rfc3161_client",
    "rfc8785",
    "rotation",
    "shared",
    "struct",
    "tomllib",
    "typing",
    "urllib.parse",
    "uuid",
}
"""All that a pure module may import. An allow-list: what is not known to do no I/O is taken to do some."""


@dataclass(frozen=True)
class Module:
    """One source file."""

    name: str
    tree: ast.Module

    @property
    def imports(self) -> set[str]:
        """Every module it names, `from a import b` as `a.b`: b may be a module."""
        return set(self._imports())

    def _imports(self) -> Iterator[str]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.name} imports relatively"
                yield from (f"{node.module}.{alias.name}" for alias in node.names)

    def uses(self, package: str) -> bool:
        """Whether it imports the package or anything in it."""
        return any(within(name, package) for name in self.imports)


def within(name: str, package: str) -> bool:
    return f"{name}.".startswith(f"{package}.")


def load() -> dict[str, Module]:
    files = [path for top in SHIPPED for path in ((ROOT / top).rglob("*.py") if "." not in top else [ROOT / top])]
    modules = {}
    for path in files:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        modules[name] = Module(name, ast.parse(path.read_text(encoding="utf-8")))
    return modules


MODULES: Final = load()
ROTATION: Final = {name for name in MODULES if within(name, "rotation") and name != "rotation"}
ROTATORS: Final = {name for name in ROTATION if within(name, "rotation.rotators")}


def breakers(names: set[str], package: str) -> list[str]:
    """Which of the modules import the package."""
    return sorted(name for name in names if MODULES[name].uses(package))


def test_every_module_of_rotation_is_known_to_decide_or_to_do() -> None:
    listed = {name for name in PURE | set(NEARLY_PURE) | DOING if within(name, "rotation")}
    assert listed == ROTATION - ROTATORS


@pytest.mark.parametrize("name", sorted(PURE | set(NEARLY_PURE)))
def test_what_decides_imports_nothing_that_does_io(name: str) -> None:
    allowed = NO_IO | NEARLY_PURE.get(name, set())
    strangers = {each for each in MODULES[name].imports if not any(within(each, package) for package in allowed)}
    assert not strangers


@pytest.mark.parametrize("name", sorted(PURE | set(NEARLY_PURE)))
def test_what_decides_imports_nothing_that_does(name: str) -> None:
    doing = DOING | {"shared.azure", "shared.log", "shared.timestamps", "shared.alert_sinks", "shared.metrics"}
    assert not [each for each in doing if MODULES[name].uses(each)]


@pytest.mark.parametrize("name", sorted(PURE | set(NEARLY_PURE)))
def test_what_decides_asks_neither_for_the_time_nor_for_random_bytes(name: str) -> None:
    calls = {node.attr for node in ast.walk(MODULES[name].tree) if isinstance(node, ast.Attribute)}
    assert not calls & {"now", "utcnow", "today", "urandom", "token_bytes", "generate_key"}


def test_only_the_adapters_and_the_app_speak_to_azure() -> None:
    allowed = {name for name in MODULES if within(name, "shared.azure")} | ROTATORS
    assert breakers(set(MODULES) - allowed, "azure") == ["function_app"]
    assert {each for each in MODULES["function_app"].imports if within(each, "azure")} == {"azure.functions"}


def test_shared_does_not_know_rotation_but_for_the_composition_root() -> None:
    shared = {name for name in MODULES if within(name, "shared")}
    assert breakers(shared, "rotation") == ["shared.azure.wiring"]


def test_only_entry_points_reach_for_the_composition_root() -> None:
    assert set(breakers(set(MODULES), "shared.azure.wiring")) <= {"function_app", "rotation.__main__"}


def test_only_the_adapters_know_each_other() -> None:
    outside = {name for name in MODULES if not within(name, "shared.azure")}
    assert set(breakers(outside, "shared.azure")) <= {"function_app", "rotation.__main__"}


def test_no_module_but_a_job_or_an_entry_point_imports_a_job() -> None:
    jobs = {name for name in DOING if name.endswith("_job")}
    importers = {name for name in MODULES for job in jobs if name != job and MODULES[name].uses(job)}
    assert importers <= DOING | {"shared.azure.wiring"}


@pytest.mark.parametrize("package", NOT_SHIPPED)
def test_the_app_does_not_import_what_is_not_shipped(package: str) -> None:
    assert not breakers(set(MODULES), package)


def test_only_entry_points_read_the_environment() -> None:
    readers = set()
    for name, module in MODULES.items():
        words = {node.attr for node in ast.walk(module.tree) if isinstance(node, ast.Attribute)}
        words |= {each.rpartition(".")[2] for each in module.imports}
        if words & {"environ", "getenv", "environb"}:
            readers.add(name)
    assert readers <= {"function_app", "rotation.__main__"}


def test_there_is_no_circle_of_imports() -> None:
    edges = {name: (_named(name) & set(MODULES)) - {name} for name in MODULES}
    done: set[str] = set()
    while ready := {name for name in edges if name not in done and edges[name] <= done}:
        done |= ready
    assert not set(edges) - done


def _named(name: str) -> set[str]:
    """The modules that a module imports, whether by their own name or by that of something in them."""
    imports = MODULES[name].imports
    return imports | {each.rpartition(".")[0] for each in imports}


@pytest.mark.parametrize("name", sorted(MODULES))
def test_every_module_and_every_public_name_in_it_says_what_it_promises(name: str) -> None:
    module = MODULES[name].tree
    assert ast.get_docstring(module)
    for node in module.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), node.name


def test_revealing_a_secret_is_done_in_few_places() -> None:
    """`reveal` is the word to search for; a new place is added here, on purpose."""
    revealing = {
        name
        for name, module in MODULES.items()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and node.attr == "reveal"
    }
    assert revealing - ROTATORS == {
        "rotation.tenant_cipher",
        "rotation.webhook",
        "rotation.wrapping",
        "shared.alert_sinks",
        "shared.azure.secrets",
        "shared.azure.vault",
        "shared.azure.wiring",
    }
