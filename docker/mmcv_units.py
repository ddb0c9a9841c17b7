"""Joins the sources of mmcv-full into translation units that compile in a fraction of the time.

Most of the compile time of mmcv-full 1.7.2 is spent on torch's headers, which are parsed again for
each of 73 files (129 with CUDA, and each CUDA file once more for each architecture). A unit is a
generated file that includes many of these files, which stay as they are. setup.py is changed to
compile the units, with the C++ standard that torch's headers need and without debug information.
"""

from pathlib import Path

CUDA_UNITS = (
    "nms_rotated_cuda points_in_boxes_cuda "
    "spconv_ops_cuda fused_spconv_ops_cuda sparse_pool_ops_cuda",
    "nms_quadri_cuda sparse_indice sparse_maxpool sparse_reordering roiaware_pool3d_cuda",
    "box_iou_rotated_cuda nms_cuda roipoint_pool3d_cuda",
    "box_iou_quadri_cuda scatter_points_cuda",
    "carafe_cuda convex_iou",
    "carafe_naive_cuda iou3d_cuda voxelization_cuda",
    "correlation_cuda min_area_polygons",
)
"""CUDA sources that must be in separate units; the others are added to the smallest units.

Apart, because they define the same names: four sources for rotated boxes, convex_iou, iou3d and
min_area_polygons (Point, EPS, MAXN); those for rotated boxes and carafe (divideUP); carafe,
carafe_naive and correlation (Loc2Index, WARP_SIZE); nms and its variants for rotated boxes
(threadsPerBlock); points_in_boxes and the pools of points (check_pt_in_box3d); scatter_points and
voxelization (reduce_t); spconv_ops and sparse_indice (functors). Together: what includes the large
torch/script.h, as far as it can be.
"""

CXX_FLAGS = ["-std=c++20", "-g0", "-O2"]
"""Appended to the flags of Python's own build (-g -O3), which they override."""

NVCC_FLAGS = ["-std=c++20", "-Xcompiler=-O2"]


def write(folder: Path) -> None:
    """Write the units into the folder of the unpacked source, and change its setup.py."""
    sources = folder / "mmcv/ops/csrc/pytorch"
    units = folder / "units"
    units.mkdir()
    for name, files in {**cpp_units(sources), **cuda_units(sources)}.items():
        lines = [f'#include "../{file.relative_to(folder)}"\n' for file in files]
        (units / name).write_text("".join(lines), encoding="utf-8")
    setup = folder / "setup.py"
    setup.write_text(with_units(setup.read_text(encoding="utf-8")), encoding="utf-8")


def cpp_units(sources: Path) -> dict[str, list[Path]]:
    """C++ sources by unit name, in the order in which the unit includes them.

    roi_align, roi_align_rotated and rotated_feature_align define the same templates, so they are in
    different units; psamask is the last of its unit, because it defines macros min and max.
    """
    cpu, pybind = sources / "cpu", sources / "pybind.cpp"
    rotated = cpu / "roi_align_rotated.cpp"
    aligned = cpu / "rotated_feature_align.cpp"
    psamask = cpu / "psamask.cpp"
    return {
        "dispatch.cpp": [*sorted({*sources.glob("*.cpp")} - {pybind}), rotated],
        "cpu.cpp": [*sorted({*cpu.glob("*.cpp")} - {rotated, aligned, psamask}), psamask],
        "pybind.cpp": [pybind, aligned],
        "cuda_bind.cpp": sorted(sources.glob("cuda/*.cpp")),
    }


def cuda_units(sources: Path) -> dict[str, list[Path]]:
    """CUDA sources by unit name, balanced by size."""
    cuda = sources / "cuda"
    units = [[cuda / f"{name}.cu" for name in names.split()] for names in CUDA_UNITS]
    assigned = {file for unit in units for file in unit}
    for file in sorted({*cuda.glob("*.cu")} - assigned, key=_size, reverse=True):
        min(units, key=lambda unit: sum(map(_size, unit))).append(file)
    return {f"cuda_{number}.cu": sorted(unit) for number, unit in enumerate(units)}


def _size(file: Path) -> int:
    return file.stat().st_size


def names(folder: Path, *, is_cuda: bool) -> list[str]:
    """Names of the units that are compiled with or without CUDA."""
    files = sorted(file.name for file in folder.glob("units/*"))
    return [name for name in files if is_cuda or not name.startswith("cuda_")]


def with_units(setup: str) -> str:
    """Change setup.py of mmcv-full to compile the units; `ValueError` for another version."""
    anchor = "        ext_ops = extension(\n"
    if setup.count(anchor) != 1:
        raise ValueError("setup.py of mmcv-full is not the one of 1.7.2.")
    lines = f"""\
        op_files = [file for file in sorted(glob.glob('./units/*'))
                    if 'nvcc' in extra_compile_args or '/cuda_' not in file]
        extra_compile_args['cxx'] += {CXX_FLAGS}
        if 'nvcc' in extra_compile_args:
            extra_compile_args['nvcc'] += {NVCC_FLAGS}
"""
    return setup.replace("-std=c++17", "-std=c++20").replace(anchor, lines + anchor)
