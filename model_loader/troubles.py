"""What speaks against loading a model on this machine: a code, its values, and the English sentence.

Plain, so that a check of `prelabel doctor`, the status page (which has the Chinese) and an error of the engine say the
same. Knows words only.
"""

from __future__ import annotations

from dataclasses import dataclass, field

TEXTS: dict[str, str] = {
    # why no card can be used
    "card_none": "this machine has no CUDA card",
    "card_missing": (
        "PRELABEL_DEVICE={device}, but no CUDA card is seen. Install NVIDIA's driver, start a container with --gpus "
        "all, or set PRELABEL_DEVICE=auto."
    ),
    "card_no_such": "PRELABEL_DEVICE={device}, but torch sees {count} of them, and counts from cuda:0.",
    "card_cpu_torch": (
        "NVIDIA's driver {driver} is there, but torch {torch} is built for CPUs. Install a torch built for CUDA."
    ),
    "card_no_driver": (
        "There is an NVIDIA card in this machine, but its driver is not loaded, and torch {torch} needs driver "
        "{needed} or newer. Install it; after an update of the kernel, install it again; with Secure Boot its module "
        "must be signed. Then restart the machine."
    ),
    "card_driver_old": (
        "NVIDIA's driver {driver} is too old: torch {torch} is built for CUDA {cuda}, and needs driver {needed} or "
        "newer. Update the driver (on the host, where this is a container) and restart the machine."
    ),
    "card_driver_mixed": (
        "NVIDIA's driver {driver} is loaded, but its libraries are of {library}, as after an update without a restart. "
        "Restart the machine; where this is a container, make it anew."
    ),
    "card_not_in_container": (
        "The host has NVIDIA's driver {driver}, but this container was given no card. Start it with --gpus all "
        "(compose: deploy.resources.reservations.devices); the host needs NVIDIA's container toolkit."
    ),
    "card_no_device": (
        "NVIDIA's driver {driver} is loaded, but there is no /dev/nvidia0: it knows no card of this machine, or the "
        "file was not made. Run nvidia-smi as root, which makes it or says why not; an old card needs an older driver, "
        "one of RTX 50 and newer the driver's open kernel modules (nvidia-open)."
    ),
    "card_no_permission": (
        "{file} cannot be opened by the user prelabel runs as (uid {uid}). Add the user to the group that owns the "
        "file (often video or render), or start the container with --gpus all."
    ),
    "card_taken_back": (
        "{file} may not be opened here, though its rights allow it: this container has no card (any more), as after "
        "`systemctl daemon-reload` or an update on the host (driver {driver}). Start the container again (docker "
        "compose restart prelabel); in LXC allow it the card's devices. docs/docker.md says more."
    ),
    "card_no_library": (
        "NVIDIA's driver {driver} is loaded, but its library libcuda.so.1 is not found. Install it (libcuda1 on "
        "Debian, libnvidia-compute on Ubuntu); in a container set NVIDIA_DRIVER_CAPABILITIES=compute,utility."
    ),
    "card_hidden": (
        "CUDA_VISIBLE_DEVICES={visible} hides every card from torch. Unset it, or name one by its number (0 is the "
        "first). Within Ray it is Ray that sets it: `ray start` was told of no card, as by --num-gpus=0, or others "
        "have it."
    ),
    "card_fabric": (
        "CUDA waits for NVIDIA's fabric manager (error 802). Install and start nvidia-fabricmanager of the driver's "
        "own version, {driver}."
    ),
    "card_busy": (
        "Another program holds the card{card} for itself alone. End it (nvidia-smi lists it; a running prelabel is "
        "one), name another card, as PRELABEL_DEVICE=cuda:1, or let programs share the card: nvidia-smi -c 0."
    ),
    "card_address_limit": (
        "CUDA cannot use the card ({said}): processes here may have {limit} GiB of addresses (ulimit -v), and CUDA "
        "wants many times that, of which it fills little. Lift the limit: ulimit -v unlimited (of a job of a "
        "cluster h_vmem, or the like)."
    ),
    "card_wsl": (
        "Windows has NVIDIA's driver, but CUDA sees no card within WSL ({said}). Does nvidia-smi show one there? "
        "Update the driver in Windows and WSL itself (wsl --update), then wsl --shutdown; start a container with "
        "--gpus all."
    ),
    "card_silent": (
        "NVIDIA's driver has not answered for {limit} s. Does nvidia-smi? Look for Xid in `dmesg`, and restart the "
        "machine if need be."
    ),
    "card_unseen": (
        "NVIDIA's driver {driver} is loaded, but torch {torch} cannot use a card. Does nvidia-smi show one? "
        "`prelabel doctor` asks CUDA why."
    ),
    "card_no_instance": (
        "NVIDIA's driver {driver} is loaded, and there are files of a card, but CUDA finds none. Where nvidia-smi "
        "shows MIG as enabled, make an instance (nvidia-smi mig -cgi 0 -C) or turn MIG off (nvidia-smi -mig 0). Where "
        "it shows no card, one of RTX 50 and newer needs the driver's open kernel modules (nvidia-open); see `dmesg`."
    ),
    "card_no_uvm": (
        "CUDA cannot use the card ({said}), although NVIDIA's driver {driver} is loaded (torch {torch}). Most often "
        "nvidia_uvm, a part of it, is at fault, as after a suspend: load it anew (modprobe -r nvidia_uvm; modprobe "
        "nvidia_uvm) where the driver is, and make a container anew."
    ),
    "card_error": (
        "CUDA cannot use the card: {said} (NVIDIA's driver {driver}, torch {torch}). Does nvidia-smi show it?"
    ),
    "card_too_old": (
        "{card} has compute capability {capability}, and 8.0 is needed for bfloat16 and our kernels: RTX 30, A10, L4, "
        "A100 and newer (docs/cards.md). V100, T4, P40 and RTX 20 cannot be used. Of several cards name another, as "
        "PRELABEL_DEVICE=cuda:1."
    ),
    # the machine's own memory, its disks
    "host_too_small": (
        "Loading takes at least {least} GiB of this machine's own memory (not the card's), and {free} GiB are free "
        "here (or in this container). End other programs, let the container have more (--memory), or add memory."
    ),
    "host_too_small_for_cpu": (
        "On a CPU the model takes at least {least} GiB of memory, and {free} GiB are free here (or in this container). "
        "Use PRELABEL_MODEL=garments, or a machine with a card."
    ),
    "disk_too_small": (
        "{folder}: {free} GiB free, which is too little: {download} GiB still to download, {packed} GiB for the 4-bit "
        "copy. Free some space, or name a larger disk with {setting} (downloads) or PRELABEL_QUANTISED_DIR (the copy)."
    ),
    "disk_tight": (
        "{folder}: {free} GiB free, which is tight: {download} GiB still to download, {packed} GiB for the 4-bit copy, "
        "without which each start packs again. Free some space, or name a larger disk with {setting} (downloads) or "
        "PRELABEL_QUANTISED_DIR (the copy)."
    ),
    "disk_other_copies": (
        "{folder} holds 4-bit copies that this start does not take, {total} GiB in all: {copies}. Its own is {own}. "
        "Where no other prelabel takes them: {remove}"
    ),
    "disk_other_spelling": (
        "the hub's cache holds {model} under another spelling, {size} GiB, which this start does not take: set "
        "PRELABEL_MODEL={other} to use that, or, where nothing else does, remove it: {remove}"
    ),
    "disk_stands_still": (
        "the disk of {folder} has taken nothing for {limit} s; look into `dmesg`, and at the mount if it is a network's"
    ),
    "lock_elsewhere": (
        "{file} is locked: process {process} of the host or container {host} has held it for {age} min. While that is "
        "at work, it is waited for. Where it is gone, as a container that was killed, remove the lock: rm {file}"
    ),
    "folder_unwritable": (
        "{setting}: {folder} cannot be written ({reason}), and this start puts files there. Name another folder in "
        "{setting}, or give this one to the user prelabel runs as (uid {uid}): chown -R {uid} {folder}"
    ),
    "folder_no_links": (
        "{setting}: the disk of {folder} has no symbolic links ({reason}), as exFAT, SMB and mounts of Windows may be, "
        "and a start makes some there. Name a folder on another disk in {setting}, as /tmp"
    ),
    "folder_no_code": (
        "{setting}: the disk of {folder} lets no code run ({reason}), as one that is mounted noexec, and Triton loads "
        "the kernels from there that it builds. Name a folder on another disk in {setting}"
    ),
    # the card's memory
    "memory_too_small": (
        "At least {needed} GiB are needed, and the card offers {card} GiB. Use a larger card (of several: "
        "PRELABEL_DEVICE=cuda:1) or a smaller model (docs/cards.md); PRELABEL_MODEL=garments always fits."
    ),
    "memory_limited": (
        "At least {needed} GiB are needed, and PRELABEL_VRAM_GIB allows {limit} of the card's {card} GiB. Raise it, or "
        "use a smaller model (docs/cards.md); PRELABEL_MODEL=garments always fits."
    ),
    "memory_taken": (
        "At least {needed} GiB are needed, and other programs leave {free} of the card's {card} GiB. End them "
        "(nvidia-smi lists them; a running prelabel is one), or name another card, as PRELABEL_DEVICE=cuda:1, or a "
        "smaller model (docs/cards.md); PRELABEL_MODEL=garments needs no card with PRELABEL_DEVICE=cpu."
    ),
    "memory_tight": (
        "Other programs leave {free} of the card's {card} GiB: {slots} of {most} requests can run at a time. "
        "nvidia-smi lists them."
    ),
    # what a library said while the model was loaded
    "load_no_card_code": (
        "torch or bitsandbytes has no code for this card ({said}): "
        "cards of compute capability 8.0 and newer are served, with the versions of constraints.txt: install those"
    ),
    "load_driver_old": (
        "the NVIDIA driver is too old for this torch ({said}): "
        "update the driver; `prelabel doctor` names both versions"
    ),
    "load_no_bitsandbytes": (
        "bitsandbytes, which packs weights to 4 bits, cannot be used here ({said}): "
        "install the versions of constraints.txt, and unset BNB_CUDA_VERSION; `python -m bitsandbytes` says more"
    ),
    "load_no_compiler": (
        "Triton could not build a kernel for the card ({said}): "
        "install a C compiler and Python's headers (on Debian and Ubuntu: gcc and python3-dev), or name one in CC"
    ),
    "load_card_full": (
        "the card ran out of memory while loading ({said}): "
        "end what else runs on it (`nvidia-smi` lists it), or use a larger card or a smaller model (docs/cards.md)"
    ),
    "load_card_held": (
        "another program holds the card for itself alone ({said}): "
        "end that program (`nvidia-smi` lists it), or set the card's compute mode to Default: nvidia-smi -c 0"
    ),
    "load_card_failed": (
        "the card failed while the model was loaded ({said}): "
        "start again; if it comes back, look for Xid in `dmesg`, and try another driver or another card"
    ),
    "load_host_full": (
        "this machine's own memory (not the card's) did not suffice ({said}): "
        "free some, or let the container have more (--memory)"
    ),
    "load_disk_full": (
        "the disk is full ({said}): "
        "free some space, or name a larger disk with HF_HOME, MODELSCOPE_CACHE, PRELABEL_DATA_DIR or TMPDIR"
    ),
    "load_files_open": (
        "too many files are open ({said}): "
        "raise the limit: ulimit -n 65536"
    ),
    "load_not_allowed": (
        "a file may not be opened ({said}): "
        "give it to the user prelabel runs as (uid {uid})"
    ),
    "load_no_mapping": (
        "the disk that holds the model cannot map files into memory ({said}), as some networks' and FUSE's cannot: "
        "copy the model to a disk of this machine (HF_HOME, PRELABEL_QUANTISED_DIR, or the folder in PRELABEL_MODEL)"
    ),
    "load_disk_failed": (
        "the disk that holds the model does not answer as it should ({said}): "
        "look into `dmesg`; copy the model to another disk (HF_HOME, PRELABEL_DATA_DIR)"
    ),
    "load_no_library": (
        "a library is missing or another version than needed ({said}): "
        "install prelabel's dependencies again, with constraints.txt; where LD_LIBRARY_PATH is set, unset it first, as "
        "it may bring others"
    ),
    # what prelabel itself says then
    "load_code_changed": (
        "prelabel was updated while it ran, or has another version on another machine of the cluster: its files are "
        "others than those that run, and both together would mix two versions. Start prelabel again, the same version "
        "everywhere"
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Trouble:
    """`str()` of it is the sentence, which names `values`. `refuses`: nothing is loaded; else it is only told."""

    code: str
    values: dict[str, str] = field(default_factory=dict)
    refuses: bool = True

    def __str__(self) -> str:
        return TEXTS[self.code].format_map(self.values)


def trouble(code: str, **values: str) -> Trouble:
    return Trouble(code, values)


def warning(code: str, **values: str) -> Trouble:
    return Trouble(code, values, refuses=False)
