"""The ground every test stands on: strict promotion, two fake devices, run-time type checks, keys, data.

Warnings are errors (pyproject.toml). `@pytest.mark.x64` runs a test in double precision; `@pytest.mark.unchecked`
lets garbage through to the library's own errors, which the type checker would otherwise pre-empt.
"""

import atexit
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

# Most of a run is XLA's compilation, often of a program that another worker has compiled: the workers inherit this and
# share what they compile. With a folder of one's own (CONTRIBUTING.md) the next run takes a fraction of the time.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="engrax-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

import jax

# Tests run each program once or twice, on few numbers: XLA's and LLVM's optimisations cost far more than they save.
# Other flags, none among them, are kept (.ci/nightly runs the programs that users run). XLA ends the process at a flag
# it does not know, so a flag of the present code generator goes to the releases that were tried.
if "XLA_FLAGS" not in os.environ:
    flags = ["--xla_backend_optimization_level=0", "--xla_llvm_disable_expensive_passes=true"]
    if jax.__version_info__ < (0, 11):
        flags += ["--xla_cpu_use_fusion_emitters=false", "--xla_cpu_parallel_codegen_split_count=1"]
    os.environ["XLA_FLAGS"] = " ".join(flags)

# Before any array exists. Promotion is strict so that nothing silently changes dtype or rank; two devices so that
# no test passes only because there is a single one.
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

import jaxtyping  # noqa: E402
import pytest  # noqa: E402

# The hook checks every annotated call of the library, shapes included. It stays installed, because parts of the
# library are imported only where they are used.
jaxtyping.install_import_hook("engrax", "typechecker.check")

_MAPS = pathlib.Path("/proc/self/maps")


@pytest.fixture(autouse=True)
def _marked(request: pytest.FixtureRequest) -> Iterator[None]:
    """Honour the markers `x64` and `unchecked`."""
    wide = request.node.get_closest_marker("x64") is not None
    jaxtyping.config.update("jaxtyping_disable", request.node.get_closest_marker("unchecked") is not None)
    with jax.enable_x64(wide):
        yield
    jaxtyping.config.update("jaxtyping_disable", False)
    # Every compiled program holds a few of the 65530 memory maps that Linux allows a process; beyond them LLVM aborts.
    if _MAPS.exists() and _MAPS.read_bytes().count(b"\n") > 30_000:
        jax.clear_caches()


@pytest.fixture
def key() -> jax.Array:
    """A random key, the same in every test."""
    return jax.random.key(20200717)


@pytest.fixture(scope="session")
def data() -> pathlib.Path:
    """The folder of real data sets, `ENGRAX_DATA`. The test is skipped where it is not set."""
    folder = os.environ.get("ENGRAX_DATA")
    if not folder:
        pytest.skip("ENGRAX_DATA is not set: no folder with the real data sets (docs/data.md)")
    return pathlib.Path(folder)
