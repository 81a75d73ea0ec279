"""The Chinese of `model_loader.troubles`: what keeps a model from a machine, and what to do about it.

Knows words only; the values are those of the English text.
"""

TROUBLES_ZH = {
    "card_none": "本机没有 CUDA 显卡",
    "card_missing": (
        "PRELABEL_DEVICE={device}，但没有找到 CUDA 显卡。请装 NVIDIA 驱动，容器用 --gpus all 启动，或设 "
        "PRELABEL_DEVICE=auto。"
    ),
    "card_no_such": "PRELABEL_DEVICE={device}，但 torch 只看到 {count} 块显卡，编号从 cuda:0 开始。",
    "card_cpu_torch": "NVIDIA 驱动 {driver} 已装，但 torch {torch} 是 CPU 版。请安装 CUDA 版的 torch。",
    "card_no_driver": (
        "本机有 NVIDIA 显卡，但驱动没有加载；torch {torch} 需要 {needed} 或更新的驱动。请安装驱动"
        "（内核更新后需重新安装；开启 Secure Boot 时其内核模块须签名），然后重启机器。"
    ),
    "card_driver_old": (
        "NVIDIA 驱动 {driver} 太旧：torch {torch} 基于 CUDA {cuda}，需要 {needed} 或更新的驱动。请更新驱动"
        "（容器则更新宿主机的驱动）并重启机器。"
    ),
    "card_driver_mixed": (
        "已加载的 NVIDIA 驱动是 {driver}，但库文件是 {library}：更新驱动后没有重启。请重启机器；"
        "若是容器，请重新创建容器。"
    ),
    "card_not_in_container": (
        "宿主机有 NVIDIA 驱动 {driver}，但没有给这个容器显卡。请用 --gpus all 启动（compose："
        "deploy.resources.reservations.devices）；宿主机需要 NVIDIA container toolkit。"
    ),
    "card_no_device": (
        "NVIDIA 驱动 {driver} 已加载，但没有 /dev/nvidia0：驱动不认识本机的显卡，或设备文件没有创建。请以 root 运行 "
        "nvidia-smi，它会创建文件或说明原因；旧显卡需要旧版驱动，"
        "RTX 50 及更新的显卡需要驱动的开放内核模块（nvidia-open）。"
    ),
    "card_no_permission": (
        "运行 prelabel 的用户（uid {uid}）无法打开 {file}。请把用户加入该文件所属的组（通常是 video 或 render），"
        "或用 --gpus all 启动容器。"
    ),
    "card_taken_back": (
        "文件权限允许打开 {file}，但系统禁止：这个容器（已）没有显卡，例如宿主机执行过 `systemctl daemon-reload` "
        "或更新之后（驱动 {driver}）。请重启容器（docker compose：重启服务 prelabel）；LXC 容器请允许它使用显卡设备。"
        "详见 docs/docker.md。"
    ),
    "card_no_library": (
        "NVIDIA 驱动 {driver} 已加载，但找不到它的库 libcuda.so.1。请安装（Debian：libcuda1，"
        "Ubuntu：libnvidia-compute）；容器请设 NVIDIA_DRIVER_CAPABILITIES=compute,utility。"
    ),
    "card_hidden": (
        "CUDA_VISIBLE_DEVICES={visible} 使 torch 看不到任何显卡。请取消该变量，或填显卡编号（从 0 开始）。"
        "在 Ray 中由 Ray 设置：`ray start` 时没有登记显卡（如 --num-gpus=0），或显卡已分给别的任务。"
    ),
    "card_fabric": (
        "CUDA 在等待 NVIDIA fabric manager（错误 802）。请安装并启动与驱动同版本（{driver}）的 nvidia-fabricmanager。"
    ),
    "card_busy": (
        "其他程序独占了显卡{card}。请结束它（nvidia-smi 可列出；正在运行的 prelabel 也算一个）、"
        "改用另一块显卡（如 PRELABEL_DEVICE=cuda:1），"
        "或允许多个程序共用：nvidia-smi -c 0。"
    ),
    "card_address_limit": (
        "CUDA 无法使用显卡（{said}）：这里的进程只能有 {limit} GiB 地址空间（ulimit -v），而 CUDA 要的是它的许多倍，"
        "真正用到的很少。请取消限制：ulimit -v unlimited（集群作业则是 h_vmem 之类的设置）。"
    ),
    "card_wsl": (
        "Windows 已装 NVIDIA 驱动，但 WSL 中的 CUDA 看不到显卡（{said}）。WSL 中的 nvidia-smi 能看到吗？"
        "请更新 Windows 的驱动和 WSL（wsl --update），再 wsl --shutdown；容器用 --gpus all 启动。"
    ),
    "card_silent": ("NVIDIA 驱动 {limit} 秒没有应答。nvidia-smi 有响应吗？请在 `dmesg` 中查找 Xid，必要时重启机器。"),
    "card_unseen": (
        "NVIDIA 驱动 {driver} 已加载，但 torch {torch} 无法使用显卡。nvidia-smi 能看到显卡吗？"
        "`prelabel doctor` 会向 CUDA 询问原因。"
    ),
    "card_no_instance": (
        "NVIDIA 驱动 {driver} 已加载，也有显卡的设备文件，但 CUDA 找不到显卡。如果 nvidia-smi 显示 MIG 已启用，"
        "请创建一个实例（nvidia-smi mig -cgi 0 -C）或关闭 MIG（nvidia-smi -mig 0）。如果 nvidia-smi 看不到显卡："
        "RTX 50 及更新的显卡需要驱动的开放内核模块（nvidia-open），原因见 `dmesg`。"
    ),
    "card_no_uvm": (
        "CUDA 无法使用显卡（{said}），但 NVIDIA 驱动 {driver} 已加载（torch {torch}）。多半是其 nvidia_uvm 模块出了"
        "问题，例如休眠之后：请在装有驱动的机器上重新加载（modprobe -r nvidia_uvm; modprobe nvidia_uvm），"
        "容器则重新创建。"
    ),
    "card_error": "CUDA 无法使用显卡：{said}（NVIDIA 驱动 {driver}，torch {torch}）。nvidia-smi 能看到显卡吗？",
    "card_too_old": (
        "{card} 的计算能力是 {capability}，而 bfloat16 和我们的内核需要 8.0：RTX 30、A10、L4、A100 及更新的显卡"
        "（docs/cards.md）。V100、T4、P40 和 RTX 20 无法使用。有多块显卡时请指定另一块，如 PRELABEL_DEVICE=cuda:1。"
    ),
    "host_too_small": (
        "加载模型至少需要 {least} GiB 内存（不是显存），而本机（或容器）只剩 {free} GiB。请结束其他程序、"
        "加大容器的 --memory，或增加内存。"
    ),
    "host_too_small_for_cpu": (
        "在 CPU 上运行该模型至少需要 {least} GiB 内存，而本机（或容器）只剩 {free} GiB。请设 PRELABEL_MODEL=garments，"
        "或换一台有显卡的机器。"
    ),
    "disk_too_small": (
        "{folder}：剩余 {free} GiB，不够：还需要下载 {download} GiB，4-bit 副本 {packed} GiB。请腾出空间，"
        "或用 {setting}（下载）、PRELABEL_QUANTISED_DIR（副本）指定更大的磁盘。"
    ),
    "disk_tight": (
        "{folder}：剩余 {free} GiB，不太够：还需要下载 {download} GiB，4-bit 副本 {packed} GiB；没有副本，"
        "每次启动都要重新量化。请腾出空间，或用 {setting}（下载）、PRELABEL_QUANTISED_DIR（副本）指定更大的磁盘。"
    ),
    "disk_other_copies": (
        "{folder} 中有本次启动不用的 4-bit 副本，共 {total} GiB：{copies}。本次启动用的是 {own}。"
        "如果没有别的 prelabel 在用，可删除：{remove}"
    ),
    "disk_other_spelling": (
        "下载缓存中有 {model} 的另一种写法，{size} GiB，本次启动不会用到：可设 PRELABEL_MODEL={other} 来使用它；"
        "如果没有别的程序在用，也可删除：{remove}"
    ),
    "disk_stands_still": ("{folder} 所在的磁盘 {limit} 秒没有写入任何数据；请查看 `dmesg`，网络盘请检查挂载"),
    "lock_elsewhere": (
        "{file} 被锁住：主机或容器 {host} 的进程 {process} 已占用它 {age} 分钟。它若仍在工作，会等它完成；"
        "若已不在（例如被终止的容器），请删除这个锁文件：rm {file}"
    ),
    "folder_unwritable": (
        "{setting}：{folder} 无法写入（{reason}），而启动时要在那里存放文件。请用 {setting} 指定另一个文件夹，"
        "或把它交给运行 prelabel 的用户（uid {uid}）：chown -R {uid} {folder}"
    ),
    "folder_no_links": (
        "{setting}：{folder} 所在的磁盘不支持符号链接（{reason}），例如 exFAT、SMB 和 Windows 的挂载，"
        "而启动时需要在那里创建。请用 {setting} 指定另一块磁盘上的文件夹，例如 /tmp"
    ),
    "folder_no_code": (
        "{setting}：{folder} 所在的磁盘不允许运行代码（{reason}），例如以 noexec 挂载，"
        "而 Triton 要从那里加载它编译的内核。请用 {setting} 指定另一块磁盘上的文件夹"
    ),
    "memory_too_small": (
        "至少需要 {needed} GiB，而显卡只有 {card} GiB。请换更大的显卡（有多块时：PRELABEL_DEVICE=cuda:1）"
        "或更小的模型（docs/cards.md）；PRELABEL_MODEL=garments 总放得下。"
    ),
    "memory_limited": (
        "至少需要 {needed} GiB，而 PRELABEL_VRAM_GIB 只允许使用 {limit} GiB（显卡共 {card} GiB）。请调大它，"
        "或换更小的模型（docs/cards.md）；PRELABEL_MODEL=garments 总放得下。"
    ),
    "memory_taken": (
        "至少需要 {needed} GiB，而其他程序只留下 {free} GiB（显卡共 {card} GiB）。请结束它们（nvidia-smi 会列出；"
        "正在运行的 prelabel 也算），或指定另一块显卡，如 PRELABEL_DEVICE=cuda:1，或更小的模型（docs/cards.md）；"
        "PRELABEL_MODEL=garments 配 PRELABEL_DEVICE=cpu 不需要显卡。"
    ),
    "memory_tight": (
        "其他程序只留下 {free} GiB（显卡共 {card} GiB）：可同时处理 {slots} 张，而不是 {most} 张。"
        "nvidia-smi 会列出这些程序。"
    ),
    "load_no_card_code": (
        "torch 或 bitsandbytes 没有适用于这块显卡的代码（{said}）。需要计算能力 8.0 及更新的显卡，"
        "并按 constraints.txt 安装。"
    ),
    "load_driver_old": "NVIDIA 驱动对这个 torch 来说太旧（{said}）。请更新驱动；`prelabel doctor` 会说明两者的版本。",
    "load_no_bitsandbytes": (
        "用于量化的 bitsandbytes 在这里不能用（{said}）。请按 constraints.txt 安装，并取消 BNB_CUDA_VERSION；"
        "`python -m bitsandbytes` 会说明更多。"
    ),
    "load_no_compiler": (
        "Triton 无法为显卡编译内核（{said}）。请安装 C 编译器和 Python 头文件（Debian 和 Ubuntu：gcc 和 python3-dev），"
        "或在 CC 中指定编译器。"
    ),
    "load_card_full": (
        "加载时显存不足（{said}）。请结束占用显卡的其他程序（`nvidia-smi` 可列出），或换更大的显卡、更小的模型"
        "（docs/cards.md）。"
    ),
    "load_card_held": (
        "其他程序独占了显卡（{said}）。请结束它（`nvidia-smi` 可列出），或把计算模式设为 Default：nvidia-smi -c 0。"
    ),
    "load_card_failed": (
        "加载模型时显卡出错（{said}）。请重新启动；若再次出现，请在 `dmesg` 中查找 Xid，并更换驱动或显卡。"
    ),
    "load_host_full": "本机内存（不是显存）不足（{said}）。请腾出内存，或加大容器的 --memory。",
    "load_disk_full": (
        "磁盘已满（{said}）。请腾出空间，或用 HF_HOME、MODELSCOPE_CACHE、PRELABEL_DATA_DIR、TMPDIR 指定更大的磁盘。"
    ),
    "load_files_open": "打开的文件太多（{said}）。请提高上限：ulimit -n 65536。",
    "load_not_allowed": "没有权限打开文件（{said}）。请把它交给运行 prelabel 的用户（uid {uid}）。",
    "load_no_mapping": (
        "存放模型的磁盘不能把文件映射到内存（{said}），有些网络盘和 FUSE 就是这样。请把模型复制到本机磁盘"
        "（HF_HOME、PRELABEL_QUANTISED_DIR，或 PRELABEL_MODEL 中的文件夹）。"
    ),
    "load_disk_failed": (
        "存放模型的磁盘没有正常应答（{said}）。请看 `dmesg`，并把模型复制到另一块磁盘（HF_HOME、PRELABEL_DATA_DIR）。"
    ),
    "load_code_changed": (
        "prelabel 运行时被更新了，或集群中另一台机器上是其他版本：磁盘上的文件与正在运行的不是同一版本，不能混用。"
        "请重启 prelabel，所有机器用同一版本。"
    ),
    "load_no_library": (
        "缺少某个库，或版本不对（{said}）。若设了 LD_LIBRARY_PATH，请先取消它：它可能带来其他版本；"
        "否则请按 constraints.txt 重新安装 prelabel 的依赖。"
    ),
}
