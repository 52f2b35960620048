"""Lets PyTorch's published wheel import on a machine that has neither a GPU nor NVIDIA's libraries.

    python3 make_stubs.py SITE-PACKAGES

A HACK FOR THIS PROJECT'S OWN TESTS. Never ship it, never train for real on it. PyTorch's wheel for x86-64 is linked
against NVIDIA's libraries, which are several gigabytes; a run on the CPU calls none of them, but the dynamic linker wants
every library and every symbol to be there. This script reads from the wheel's own files which libraries and symbols
those are, and makes libraries that have them and do nothing: every function returns 100, "no device".
`torch.cuda.is_available()` is then False. It needs gcc and readelf (Debian: gcc, binutils). The libraries go to `torch/lib`,
where the wheel looks first.

Only names that begin with libcu, libnv or libnccl and that the machine lacks are made; nothing that is there is replaced.
"""

import os
import re
import subprocess
import sys
import tempfile

OURS = re.compile(r"lib(cu|nv|nccl)")
# The longest prefix that fits says whose an unversioned symbol is.
PREFIXES = [
    ("cublasLt", "libcublasLt."), ("cublas", "libcublas."), ("cudnn", "libcudnn."), ("cufft", "libcufft."),
    ("cuFile", "libcufile."), ("cupti", "libcupti."), ("cusolver", "libcusolver."), ("cusparseLt", "libcusparseLt."),
    ("cusparse", "libcusparse."), ("curand", "libcurand."), ("nccl", "libnccl."), ("pnccl", "libnccl."), ("nvrtc", "libnvrtc."),
    ("nvshmem", "libnvshmem_host."), ("nvJitLink", "libnvJitLink."), ("nvml", "libnvidia-ml."), ("nvtx", "libnvToolsExt."),
    ("__cuda", "libcudart."), ("cuda", "libcudart."), ("cu", "libcuda."),
]  # fmt: skip
TEXT = re.compile(r"ErrorString|ErrorName|StatusString|StatusName|LastError")


def readelf(flag, path):
    return subprocess.run(["readelf", flag, "-W", path], check=True, capture_output=True, text=True).stdout


def owner_by_prefix(symbol, needed):
    fits = [(len(prefix), library) for prefix, library in PREFIXES if symbol.startswith(prefix)]
    for _, library in sorted(fits, reverse=True):
        for name in needed:
            if name.startswith(library):
                return name
    return None


def survey(folder):
    """For each missing library: its symbols {name: (version, is_data)} and the versions it must declare."""
    files = [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if ".so" in name]
    present = {os.path.basename(path) for path in files}
    needed = {}
    for path in files:
        for name in re.findall(r"\(NEEDED\)\s+Shared library: \[(.+?)\]", readelf("-d", path)):
            if OURS.match(name) and name not in present:
                needed.setdefault(name, {})
    versions = {name: set() for name in needed}
    for path in files:
        owner_of = {}
        library = None
        for line in readelf("-V", path).splitlines():
            file = re.search(r"File: (\S+)", line)
            version = re.search(r"Name: (\S+)\s+Flags", line)
            if file:
                library = file.group(1)
            elif version and library in needed:
                owner_of[version.group(1)] = library
                versions[library].add(version.group(1))
        for line in readelf("--dyn-syms", path).splitlines():
            part = line.split()
            if len(part) < 8 or part[6] != "UND":
                continue
            symbol, _, version = part[7].partition("@")
            version = version.lstrip("@")
            owner = owner_of.get(version) if version else owner_by_prefix(symbol, needed)
            if owner:
                old_version, old_data = needed[owner].get(symbol, ("", False))
                needed[owner][symbol] = (version or old_version, old_data or part[3] == "OBJECT")
    return needed, versions


def body(symbol, is_data):
    if is_data:
        return f"char {symbol}[4096];"
    if symbol == "cudaStreamIsCapturing":
        return f"int {symbol}(void *stream, int *state) {{ if (state) *state = 0; return 0; }}"
    if TEXT.search(symbol) and not symbol.startswith(("cudaGetLast", "cudaPeekAtLast")):
        return f'const char *{symbol}(void) {{ return "this is a stub, there is no GPU"; }}'
    quiet = symbol.startswith("__cuda") or "Destroy" in symbol or "Free" in symbol
    return f"long {symbol}(void) {{ return {0 if quiet else 100}; }}"


def make(name, symbols, versions, folder, scratch):
    source, script = os.path.join(scratch, "stub.c"), os.path.join(scratch, "stub.map")
    with open(source, "w") as file:
        file.write("\n".join(body(symbol, data) for symbol, (_, data) in sorted(symbols.items())) + "\n")
    with open(script, "w") as file:
        for version in sorted(versions):
            names = [s for s, (v, _) in sorted(symbols.items()) if v == version]
            file.write(f"{version} {{ global: {' '.join(n + ';' for n in names)} }};\n")
    # Built-in declarations of the same names are of no interest here.
    command = ["gcc", "-shared", "-fPIC", "-O0", "-w", "-fno-builtin", f"-Wl,-soname,{name}", source]
    if versions:
        command.append(f"-Wl,--version-script={script}")
    target = os.path.join(folder, name)
    subprocess.run([*command, "-o", target + ".part"], check=True)
    os.replace(target + ".part", target)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = os.path.join(sys.argv[1], "torch", "lib")
    needed, versions = survey(folder)
    with tempfile.TemporaryDirectory() as scratch:
        for name, symbols in sorted(needed.items()):
            make(name, symbols, versions[name], folder, scratch)
            print(f"stub: {name} with {len(symbols)} symbols")


if __name__ == "__main__":
    main()
