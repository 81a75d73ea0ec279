"""What each check says, in Chinese and English: what is wrong, and what to do about it, with the setting's name.

Knows words only. Every text that names a value takes it as {value}; which a check gives is said where it is made.
"""

from __future__ import annotations

from backend.pages.engine_words import ENGINE_WORDS
from backend.pages.trouble_words import TROUBLES_ZH
from model_loader.troubles import TEXTS

NAMES: dict[str, tuple[str, str]] = {
    "model": ("模型", "Model"),
    "memory": ("显存", "Memory"),
    "card": ("显卡", "Card"),
    "compiler": ("编译器", "Compiler"),
    "host_memory": ("内存", "Host memory"),
    "disk": ("磁盘", "Disk"),
    "data_dir": ("数据目录", "Data folder"),
    "port": ("端口", "Port"),
    "address": ("Label Studio", "Label Studio"),
    "token": ("API 密钥", "API key"),
    "networks": ("图片网络", "Networks"),
    "code": ("程序", "Program"),
}

_NEW_KEY = (
    "请在 Label Studio 的 Account & Settings > Personal Access Token 新建密钥，设为 LABEL_STUDIO_API_KEY 后重启 "
    "prelabel。",
    "Make a new one in Label Studio (Account & Settings > Personal Access Token), set it as LABEL_STUDIO_API_KEY, and "
    "start prelabel again.",
)

_LOOK_ZH = (
    "请运行 prelabel doctor 检查编译器和驱动，然后重启 prelabel；若仍如此，请删除 Triton 的缓存（TRITON_CACHE_DIR，"
    "默认 ~/.triton/cache）：里面可能有损坏的文件。若原文说的是显存不足，请结束占用显卡的其他程序。"
    "结果不受影响。"
)
_LOOK_EN = (
    "Let prelabel doctor check compiler and driver, then start prelabel again; if it comes back, remove Triton's cache "
    "(TRITON_CACHE_DIR, else ~/.triton/cache), which may hold damaged files. Where it speaks of memory, end what else "
    "runs on the card. The answers are the same."
)

CHECKS: dict[str, tuple[str, str]] = {
    **ENGINE_WORDS,
    **{code: (chinese, TEXTS[code]) for code, chinese in TROUBLES_ZH.items()},
    # model
    "model_auto": (
        "auto：显卡放得下的最好的 Qwen3-VL（docs/cards.md）；没有显卡时用内置的小模型 garments",
        "auto: the best Qwen3-VL that the card holds (docs/cards.md); without a card the small built-in garments",
    ),
    "model_auto_refused": (
        "auto 不加载任何模型，直到下面所说的问题得到解决",
        "auto loads nothing until what is said below is put right",
    ),
    "model_chosen": ("auto 选择 {model}：{reason}", "auto takes {model}: {reason}"),
    "model_here": ("{model} 在本机", "{model} is on this machine"),
    "model_cached": (
        "{model}：本机已有 {gib} GiB，其余会在启动时下载",
        "{model}: {gib} GiB of it are on this machine, what is missing is downloaded at the start",
    ),
    "model_saved": ("{model} 的 4-bit 副本在 {folder}", "the 4-bit copy of {model} is in {folder}"),
    "model_download": ("{model} 会在首次启动时下载", "{model} is downloaded at the first start"),
    "model_doubtful": (
        "{model} 会当作模型中心的编号去下载。您是否想填 {near}？",
        "{model} is taken for a hub id and will be downloaded. Did you mean {near}?",
    ),
    "model_no_folder": (
        "没有文件夹 {model}，会当作模型中心的编号去下载。若想用文件夹，请改正 PRELABEL_MODEL。",
        "There is no folder {model}, so it is taken for a hub id and will be downloaded. Correct PRELABEL_MODEL if a "
        "folder is meant.",
    ),
    "model_unknown": (
        "PRELABEL_MODEL={model} 既不是本机文件夹，也不是模型中心的编号。"
        "可填 garments、auto、owner/name、modelscope:owner/name 或文件夹。",
        "PRELABEL_MODEL={model} is neither a folder on this machine nor a hub id. Write garments, auto, owner/name, "
        "modelscope:owner/name or a folder.",
    ),
    "model_unknown_near": (
        "PRELABEL_MODEL={model} 既不是本机文件夹，也不是模型中心的编号。您是否想填 {near}？",
        "PRELABEL_MODEL={model} is neither a folder on this machine nor a hub id. Did you mean {near}?",
    ),
    "model_refused": ("PRELABEL_MODEL={model} 无法使用：{reason}", "PRELABEL_MODEL={model} cannot be used: {reason}"),
    "model_no_modelscope": (
        "PRELABEL_MODEL={model} 需要 modelscope 包：pip install 'prelabel[modelscope]'",
        "PRELABEL_MODEL={model} needs the package modelscope: pip install 'prelabel[modelscope]'",
    ),
    "model_no_numbers": (
        "{model} 不在本机，无法计算所需显存；请先把它的 config.json 下载到一个文件夹",
        "the numbers of {model} are not on this machine; download its config.json to a folder to have them judged",
    ),
    # memory and card
    "memory_judged_empty": (
        "prelabel 正在运行，所以按显存全空计算；此刻 {card} GiB 中有 {free} GiB 空闲，"
        "其余是 prelabel 和其他程序占用的。其他程序占得太多时，`prelabel status` 会说明；"
        "也可先停止 prelabel 再运行 doctor。",
        "prelabel is running, so the card is judged as if nothing else held memory of it; now {free} of {card} GiB are "
        "free, and prelabel and other programs hold the rest. `prelabel status` says if others hold too much; or stop "
        "prelabel, and run doctor again.",
    ),
    "memory_fits": (
        "{card} GiB 放得下：留给 KV 缓存 {free} GiB，可同时处理 {slots} 张"
        "（按提示词 {instruction} token 共用，每张图 {image}、答案 {answer} token 计）",
        "fits {card} GiB: {free} GiB left for the KV cache = {slots:request|requests} at a time "
        "(an instruction of {instruction} tokens that all share; {image} for a picture, {answer} for its answer)",
    ),
    "memory_unknown": (
        "没有显卡可比较；可用 --vram-gib 指定",
        "no card found to compare with; name one with --vram-gib",
    ),
    "card_found": (
        "{card}：{memory} GiB，其中 {free} GiB 空闲；计算能力 {capability}，驱动 {driver}",
        "{card}: {memory} GiB, {free} GiB of it free; compute capability {capability}, driver {driver}",
    ),
    "card_taken": (
        "{card}：{memory} GiB，其中 {free} GiB 空闲；计算能力 {capability}，驱动 {driver}。"
        "在能用的显卡中它的空闲显存最多（auto 时：在装得下最好模型的显卡中）；{others}",
        "{card}: {memory} GiB, {free} GiB of it free; compute capability {capability}, driver {driver}; it has the "
        "most free memory of those that can be used, or for auto hold the best model; {others}",
    ),
    "card_named": (
        "{card}：{memory} GiB，其中 {free} GiB 空闲；计算能力 {capability}，驱动 {driver}。"
        "这块显卡由 PRELABEL_DEVICE 指定",
        "{card}: {memory} GiB, {free} GiB of it free; compute capability {capability}, driver {driver}. "
        "PRELABEL_DEVICE names this card",
    ),
    "card_in_wsl": (
        "这里是 WSL：显存不够时，Windows 的驱动会悄悄把一部分移到内存，速度会慢好几倍。启动时会检查；之后其他 Windows "
        "程序占用显存时则看不到。请在 NVIDIA 控制面板把“CUDA - Sysmem Fallback Policy”设为“Prefer No Sysmem Fallback”，"
        "或用 PRELABEL_VRAM_GIB 给它们留出显存。",
        "this is WSL: where the card's memory does not suffice, Windows' driver moves a part to the machine's memory, "
        "says nothing, and each step takes several times as long. The start looks for it; what is moved later, when a "
        "program of Windows takes memory, cannot be seen. Set “CUDA - Sysmem Fallback Policy” to “Prefer No Sysmem "
        "Fallback” in NVIDIA's control panel, or leave room with PRELABEL_VRAM_GIB.",
    ),
    "slow_spill": (
        "比应有的速度慢好几倍：显存不足，Windows 的驱动把一部分移到了内存（{said}）。请结束占用显存的 Windows 程序，"
        "调低 PRELABEL_VRAM_GIB，并在 NVIDIA 控制面板把“CUDA - Sysmem Fallback Policy”设为“Prefer No Sysmem Fallback”，"
        "然后重启 prelabel。",
        "several times slower than it should be: the card's memory did not suffice, and Windows' driver has moved a "
        "part to the machine's ({said}). End programs of Windows that use the card, lower PRELABEL_VRAM_GIB, set “CUDA "
        "- Sysmem Fallback Policy” to “Prefer No Sysmem Fallback” in NVIDIA's control panel, and start prelabel again.",
    ),
    "card_used": ("正在使用 {card}", "{card} is in use"),
    "slow_kernels": (
        "比应有的速度慢得多：4-bit 权重的 Triton 内核不能用，改由普通 torch 计算（{said}）。" + _LOOK_ZH,
        "much slower than it should be: the Triton kernels for 4-bit weights cannot be used, plain torch computes "
        "without them ({said}). " + _LOOK_EN,
    ),
    "slow_experts": (
        "比应有的速度慢得多：专家层的 Triton 内核不能用，改由普通 torch 计算（{said}）。" + _LOOK_ZH,
        "much slower than it should be: the experts' Triton kernels cannot be used, plain torch computes them "
        "({said}). " + _LOOK_EN,
    ),
    "slow_packed_experts": (
        "比应有的速度慢：直接读取 4-bit 权重的专家层内核不能用（{said}），每步先解压一层。" + _LOOK_ZH,
        "slower than it should be: the kernel that reads packed experts cannot be used ({said}), so each step unpacks "
        "them layer by layer. " + _LOOK_EN,
    ),
    "slow_steps": (
        "比应有的速度慢：专家层内核的一种规格不能用（{said}），由更大的一种代替。" + _LOOK_ZH,
        "slower than it should be: the experts' kernel cannot be used in one of its sizes ({said}), and a larger one "
        "serves. " + _LOOK_EN,
    ),
    "slow_long_prefills": (
        "读图可能比应有的速度慢：解压专家层的内核不能用（{said}），改为直接读取 4-bit 权重。" + _LOOK_ZH,
        "reading pictures may be slower than it should be: the kernel that unpacks experts cannot be used ({said}), "
        "packed ones are read instead. " + _LOOK_EN,
    ),
    "slow_linears": (
        "比应有的速度慢：线性层的 Triton 内核不能用，改由 bitsandbytes 计算（{said}）。" + _LOOK_ZH,
        "slower than it should be: the Triton kernel of linears cannot be used, bitsandbytes computes them "
        "({said}). " + _LOOK_EN,
    ),
    "slow_attention": (
        "比应有的速度慢：解码的注意力内核不能用，改由普通 torch 计算，也没有 CUDA graph（{said}）。" + _LOOK_ZH,
        "slower than it should be: the attention kernel of decode steps cannot be used; plain torch computes it, and "
        "without CUDA graphs ({said}). " + _LOOK_EN,
    ),
    "slow_graphs": (
        "比应有的速度慢：解码没有用上 CUDA graph（{said}）。请更新显卡驱动，若原文说的是显存不足，"
        "则结束占用显卡的其他程序，然后重启 prelabel；结果不受影响。",
        "slower than it should be: decode steps run without CUDA graphs ({said}). Update the card's driver, or, where "
        "that speaks of memory, end what else runs on the card, and start prelabel again; the answers are the same.",
    ),
    "slow_segments": (
        "可能比应有的速度慢：用不上可扩展显存段（{said}），量化权重后同时处理的图片较少。"
        "重启 prelabel 后会直接读取已保存的 4-bit 权重，影响更小；若原文是一个环境变量，请取消它。",
        "it may be slower than it should be: there are no expandable segments of the card's memory ({said}), so fewer "
        "pictures may be worked on at once after the weights were packed. Start prelabel again: it then reads its "
        "4-bit copy. Where that is a variable, unset it.",
    ),
    "slow_kv_cache": (
        "可能比应有的速度慢：显存不足，KV 缓存只有 {said} 个位置，同时处理的图片较少。"
        "请结束占用显卡的其他程序（nvidia-smi 可列出）后重启 prelabel。",
        "it may be slower than it should be: memory sufficed for {said:position|positions} of the KV cache only, so "
        "fewer pictures are worked on at once. End what else runs on the card (nvidia-smi lists it), then start again.",
    ),
    "slow_slots": (
        "比应有的速度慢：显存不足，同时处理的图片数只有 {said}。通常是其他程序占用了显存（nvidia-smi 可列出），"
        "请结束它们后重启 prelabel。",
        "slower than it should be: memory suffices for {said:picture|pictures} at once only. Most often other "
        "programs hold it (nvidia-smi lists them): end them and start prelabel again.",
    ),
    "slow_workspace": (
        "比应有的速度慢：在这块显卡上，除权重外需要的显存比计算的多，同时处理的图片数只有 {said}（prelabel doctor "
        "算出的是后者）。结果不受影响。请把显卡型号、驱动版本和这一行告诉 prelabel 的维护者。",
        "slower than it should be: on this card more memory is needed beside the weights than was computed, and "
        "suffices for {said:picture|pictures} at once only (the second is what prelabel doctor computes). The answers "
        "are the same. Tell whoever maintains prelabel the card, its driver and this line.",
    ),
    "slow_replicas": (
        "比应有的速度慢：在工作的模型副本比要求的少（{said}）。其余的还在启动，或无法启动："
        "请看 serve status 和它们的日志。",
        "slower than it should be: fewer engine replicas are at work than were asked for ({said}). The others are "
        "still starting, or cannot: see `serve status` and their logs.",
    ),
    "slow_starts": (
        "每次启动都要重新量化权重，会慢几分钟，出错后自动重启也一样：4-bit 副本没有保存（{said}）。"
        "请处理后重启 prelabel；副本在 PRELABEL_QUANTISED_DIR。",
        "each start packs the weights again, which takes minutes, and so does a restart after a fault: the 4-bit copy "
        "was not saved ({said}). It goes to PRELABEL_QUANTISED_DIR; mend that and start prelabel again.",
    ),
    "slow_prefills": (
        "读图比应有的速度慢：显存不足，一次只读 {said} 个 token。"
        "请结束占用显卡的其他程序（nvidia-smi 可列出）后重启 prelabel。",
        "reading pictures is slower than it should be: memory suffices for {said:token|tokens} at once only. End "
        "what else runs on the card (nvidia-smi lists it) and start prelabel again.",
    ),
    "slow_shortage": (
        "读图比应有的速度慢：显存一度不足，所以五分钟内一次只读 {said} 个 token。"
        "请结束占用显卡的其他程序（nvidia-smi 可列出）；不用重启 prelabel。",
        "reading pictures is slower than it should be: the card's memory has fallen short, so for five minutes only "
        "{said} tokens are read at once. End what else runs on the card (nvidia-smi lists it); prelabel need not be "
        "started again.",
    ),
    "slow_hot": (
        "比应有的速度慢：显卡过热（{said}），自动降低了频率。请检查风扇、灰尘和机箱通风；不用重启 prelabel。",
        "slower than it should be: the card is too hot and has lowered its clock ({said}). Look at its fans, at dust, "
        "and at the air around it; prelabel need not be started again.",
    ),
    "slow_power": (
        "比应有的速度慢：显卡的功耗上限被调低（{said}），因此降低了频率。若非有意，请以 root 用 nvidia-smi -pl 恢复；"
        "不用重启 prelabel。",
        "slower than it should be: somebody has lowered the card's power limit ({said}), which lowers its clock. If "
        "that is not wanted, raise it as root by nvidia-smi -pl; prelabel need not be started again.",
    ),
    "slow_brake": (
        "比应有的速度慢：机器的供电使显卡降低了频率（{said}）。请检查电源和显卡的供电线；不用重启 prelabel。",
        "slower than it should be: the machine's power supply makes the card lower its clock ({said}). Look at the "
        "power supply and the card's cables; prelabel need not be started again.",
    ),
    "engine_restarted": (
        "模型进程曾异常结束，已自动重新启动（次数和原因：{said}）。若反复出现，请看日志，并在 `dmesg` 中查找 Xid。",
        "the engine's process has ended and was started again by itself (how often, and why: {said}). If it comes "
        "back, see the log, and look for Xid in `dmesg`.",
    ),
    "card_not_wanted": ("PRELABEL_DEVICE=cpu：不使用显卡", "PRELABEL_DEVICE=cpu: no card is used"),
    "card_not_needed": (
        "没有 CUDA 显卡，用 CPU 运行小模型",
        "no CUDA card is seen; the small model runs on the CPU",
    ),
    "card_none_for_auto": (
        "没有 CUDA 显卡，所以由内置的小模型 garments 回答：它只认识十种服装，不能用于其他图片。请装 NVIDIA 驱动，"
        "容器用 --gpus all 启动；如果就要用它，请设 PRELABEL_MODEL=garments。",
        "no CUDA card is seen, so the small built-in model garments answers: it knows ten kinds of garment, and of "
        "other pictures nothing. Install NVIDIA's driver; start a container with --gpus all. If garments is what you "
        "want, set PRELABEL_MODEL=garments.",
    ),
    "card_none_for_model": (
        "没有 CUDA 显卡，{model} 在 CPU 上会非常慢。请装 NVIDIA 驱动，容器用 --gpus all 启动。",
        "no CUDA card is seen, and {model} is very slow on a CPU. Install NVIDIA's driver; start a container with "
        "--gpus all.",
    ),
    "compiler_found": ("{compiler} 和 Python 头文件都在", "{compiler} and Python's headers are there"),
    "compiler_missing": (
        "没有 C 编译器，而 Triton 需要它来使用显卡上的内核；没有它会慢得多。请安装 gcc，或在 CC 中指定。",
        "There is no C compiler, which Triton needs for its kernels on a card; without them all is much slower. "
        "Install gcc, or name one in CC.",
    ),
    "compiler_misnamed": (
        "CC={compiler} 不是可以运行的程序（不能带参数），而 Triton 需要它来使用显卡上的内核；没有它会慢得多。"
        "请改正 CC，或取消它并安装 gcc。",
        "CC={compiler} is no program that can be run (options beside its name cannot be given), and Triton needs one "
        "for its kernels on a card; without them all is much slower. Correct CC, or unset it and install gcc.",
    ),
    "headers_missing": (
        "没有 {file}，而 Triton 需要它来使用显卡上的内核；没有它会慢得多。请安装 Python 头文件"
        "（Debian 和 Ubuntu：python3-dev）。",
        "There is no {file}, which Triton needs for its kernels on a card; without them all is much slower. Install "
        "Python's headers (on Debian and Ubuntu: python3-dev).",
    ),
    # memory of the machine, disk
    "host_enough": ("本机内存剩余 {free} GiB", "{free} GiB of this machine's own memory are free"),
    "threads_few": (
        "这个容器或服务最多还能有 {free} 个进程和线程，而 prelabel 约需 {needed} 个；不够时它会异常结束。"
        "请提高上限：docker 用 --pids-limit，systemd 用 TasksMax，Kubernetes 用 podPidsLimit",
        "This container or service may have {free} more processes and threads, and prelabel takes about {needed}: it "
        "ends where it gets none. Raise the limit: --pids-limit (docker), TasksMax (systemd), podPidsLimit "
        "(Kubernetes).",
    ),
    "shared_memory_missing": (
        "进程之间不能共享内存（{reason}）：/dev/shm 不存在、已满或不可写。请把 tmpfs 挂载到 /dev/shm"
        "（容器用 --shm-size 64m）",
        "Processes cannot share memory ({reason}): /dev/shm is missing, full or closed. Mount it (mount -t tmpfs tmpfs "
        "/dev/shm; a container: --shm-size 64m).",
    ),
    "host_unknown": ("系统没有说明剩余多少内存", "the system does not say how much of it is free"),
    "disk_free": (
        "{folder}：剩余 {free} GiB，模型不再需要空间",
        "{folder}: {free} GiB free; the model needs no more",
    ),
    "disk_left": (
        "{folder}：其中 {left} GiB 是下载或保存到一半的文件（已计入剩余空间）：被中断的启动留下的，下次启动会先删除；"
        "正在进行的启动还在写入",
        "{folder}: {left} GiB of that are half files. What killed starts have left the next one removes first; a start "
        "that is at work writes on",
    ),
    "copy_unusable": (
        "启动时会重新打包：{said}",
        "a start will pack again: {said}",
    ),
    "disk_enough": (
        "{folder}：剩余 {free} GiB；还需要下载 {download} GiB，4-bit 副本 {packed} GiB",
        "{folder}: {free} GiB free; {download} GiB still to download, {packed} GiB for the 4-bit copy",
    ),
    "data_dir_good": ("{folder} 可写，剩余 {free} GiB", "{folder} can be written, {free} GiB free"),
    "data_dir_low": (
        "{folder} 只剩 {free} GiB；磁盘写满后，任务会等到有空间为止。请腾出空间，或更改 PRELABEL_DATA_DIR。",
        "{folder} has {free} GiB left; once it is full, work waits until there is space. Free some, or change "
        "PRELABEL_DATA_DIR.",
    ),
    "data_dir_unnamed": (
        "{folder} 随这个容器一起消失：没有为它指定命名卷。下一个容器会重新下载模型（30B 为 58 GiB），任务也不再存在；"
        "旧的匿名卷则仍占磁盘（docker volume）。请用 -v prelabel-data:/data 启动，"
        "或用 docker compose（docs/docker.md）。",
        "{folder} goes with this container, as it is on no volume that has a name: the next container downloads the "
        "model again (58 GiB for the 30B) and has none of the tasks, and unnamed volumes stay on the disk (docker "
        "volume ls). Start it with -v prelabel-data:/data, or by docker compose (docs/docker.md).",
    ),
    "data_dir_unwritable": (
        "PRELABEL_DATA_DIR={folder} 无法写入（{reason}）。请换一个文件夹，或把它交给运行 prelabel 的用户（uid {uid}）："
        "chown -R {uid} {folder}",
        "PRELABEL_DATA_DIR={folder} cannot be written ({reason}). Choose another folder, or give this one to the user "
        "prelabel runs as (uid {uid}): chown -R {uid} {folder}",
    ),
    # port
    "port_free": ("{address} 空闲", "{address} is free"),
    "port_ours": ("{address}：prelabel 正在运行", "{address}: prelabel is running there"),
    "port_taken": (
        "{address} 已被其他程序占用（{reason}）。请更改 PRELABEL_PORT，或停止那个程序。",
        "{address} cannot be listened on ({reason}). Choose another PRELABEL_PORT, or stop the program that uses "
        "this one.",
    ),
    # Label Studio's address
    "address_unset": (
        "没有设置 LABEL_STUDIO_URL：无法读取上传到 Label Studio 的图片，也不会主动推送结果",
        "LABEL_STUDIO_URL is not set: pictures uploaded to Label Studio cannot be fetched, and nothing is pushed there",
    ),
    "address_good": ("{url} 是 Label Studio {version}", "{url} is Label Studio {version}"),
    "address_page": (
        "{setting}={url} 是一个页面的地址。请填写 {site}",
        "{setting}={url} is the address of a page. The address of Label Studio is {site}",
    ),
    "address_unreadable": (
        "{setting}={url} 不是有效地址（{reason}）。请填写 http://主机:端口",
        "{setting}={url} is no address ({reason}). Write it as http://host:port",
    ),
    "address_no_host": (
        "找不到主机 {host}。请检查 LABEL_STUDIO_URL 的拼写，以及本机（或容器）的 DNS。",
        "There is no host {host}. Check the spelling of LABEL_STUDIO_URL, and the DNS of this machine or container.",
    ),
    "address_down": (
        "{url} 没有程序应答。请启动 Label Studio，或改正 LABEL_STUDIO_URL（容器里的 localhost 是容器自己）。",
        "Nothing answers at {url}. Start Label Studio, or correct LABEL_STUDIO_URL (inside a container, localhost is "
        "the container itself).",
    ),
    "address_slow": (
        "{url} 在 {limit} 秒内没有应答。请检查 Label Studio 是否正常、防火墙是否放行。",
        "{url} did not answer within {limit} s. Is Label Studio well, and does a firewall let prelabel through?",
    ),
    "address_certificate": (
        "{url} 的证书不受信任。若由自己的机构签发，请把它的 PEM 文件设为 PRELABEL_EXTRA_CA_FILE。",
        "The certificate of {url} is not trusted. If an authority of your own signed it, name that authority's PEM "
        "file in PRELABEL_EXTRA_CA_FILE.",
    ),
    "address_no_tls": (
        "{url} 不使用 https。请把 LABEL_STUDIO_URL 改为 {site}",
        "{url} does not speak https. Set LABEL_STUDIO_URL={site}",
    ),
    "address_needs_tls": (
        "{url} 应该用 https。请把 LABEL_STUDIO_URL 改为 {site}",
        "{url} wants https. Set LABEL_STUDIO_URL={site}",
    ),
    "address_garbled": (
        "{url} 没有应答就关闭了连接。若它使用 https，请把 LABEL_STUDIO_URL 改为 {site}；否则请看它的日志。",
        "{url} closed the connection without a reply. If it speaks https, set LABEL_STUDIO_URL={site}; else see its "
        "log.",
    ),
    "address_moved": (
        "{url} 转到 {site}。请把 LABEL_STUDIO_URL 改为后者。",
        "{url} redirects to {site}. Set LABEL_STUDIO_URL to that.",
    ),
    "address_login": (
        "{url} 前面有登录页（HTTP {status}）。请让 prelabel 绕过它，或把 LABEL_STUDIO_URL 改为内网地址。",
        "Another program asks for a login before {url} (HTTP {status}). Let prelabel past it, or set "
        "LABEL_STUDIO_URL to "
        "an address behind it.",
    ),
    "address_error": (
        "{url} 应答 HTTP {status}。Label Studio 可能正在启动，或代理连不上它。",
        "{url} answers HTTP {status}. Label Studio may be starting, or a proxy before it does not reach it.",
    ),
    "address_other": (
        "{url} 应答的不是 Label Studio（{what}）。请把 LABEL_STUDIO_URL 改为浏览器中打开 Label Studio 的地址，不带页"
        "面路径。",
        "What answers at {url} is not Label Studio ({what}). Set LABEL_STUDIO_URL to the address that the browser "
        "shows, without the page's path.",
    ),
    "address_proxy": (
        "{url} 没有加密，并经由环境变量 {variable} 所指的代理访问，代理能看到 API 密钥。请把 {host} 加入 NO_PROXY，"
        "或让 Label Studio 使用 https。",
        "{url} is asked without encryption through the proxy of the environment variable {variable}, which can read "
        "the API key. Add {host} to NO_PROXY, or reach Label Studio over https.",
    ),
    # token
    "token_unset": (
        "没有设置 LABEL_STUDIO_API_KEY：无法读取上传到 Label Studio 的图片，也不会主动推送结果",
        "LABEL_STUDIO_API_KEY is not set: pictures uploaded to Label Studio cannot be fetched, and nothing is "
        "pushed there",
    ),
    "token_unchecked": (
        "未检查：先解决 Label Studio 的地址",
        "not checked: Label Studio's address comes first",
    ),
    "token_good": ("属于 {user}", "belongs to {user}"),
    "token_ends": (
        "属于 {user}，将在 {days} 天后过期。" + _NEW_KEY[0],
        "belongs to {user}, and expires in {days:day|days}. " + _NEW_KEY[1],
    ),
    "token_refused": (
        "Label Studio 不接受 LABEL_STUDIO_API_KEY。" + _NEW_KEY[0],
        "Label Studio does not accept LABEL_STUDIO_API_KEY. " + _NEW_KEY[1],
    ),
    "token_expired": (
        "LABEL_STUDIO_API_KEY 已过期。" + _NEW_KEY[0],
        "LABEL_STUDIO_API_KEY has expired. " + _NEW_KEY[1],
    ),
    "token_short": (
        "LABEL_STUDIO_API_KEY 是几分钟后就失效的访问令牌。" + _NEW_KEY[0],
        "LABEL_STUDIO_API_KEY is an access token that lasts for minutes only. " + _NEW_KEY[1],
    ),
    "token_legacy": (
        "LABEL_STUDIO_API_KEY 是旧版令牌（Legacy Token），而该组织关闭了旧版令牌。"
        "请改用 Personal Access Token（Account & Settings），或由管理员在 Organization > API Tokens Settings 中开启"
        "。",
        "LABEL_STUDIO_API_KEY is a legacy token, and legacy tokens are switched off for this organization. Use a "
        "Personal "
        "Access Token (Account & Settings), or have an administrator turn legacy tokens on under Organization > API "
        "Tokens Settings.",
    ),
    "token_forbidden": (
        "Label Studio 拒绝了该密钥的用户（HTTP 403：{said}）。请检查该用户是否仍属于组织。",
        "Label Studio refuses the user of LABEL_STUDIO_API_KEY (HTTP 403: {said}). Is that user still a member of the "
        "organization?",
    ),
    # networks
    "networks_public": (
        "Label Studio 上传的图片和公网图片可以读取",
        "pictures of Label Studio and of the public internet are fetched",
    ),
    "networks_listed": (
        "Label Studio 上传的图片、公网图片，以及 {networks} 的图片可以读取",
        "pictures of Label Studio, of the public internet and of {networks} are fetched",
    ),
    "networks_private": (
        "{host} 在内网（{ip}）：上传到 Label Studio 的图片可以读取；若任务的图片在内网的其他服务器上，请设 "
        "PRELABEL_ALLOWED_NETWORKS，例如 {network}",
        "{host} is on a private address ({ip}): pictures uploaded to Label Studio are fetched; for tasks whose "
        "pictures lie on another server of that network, set PRELABEL_ALLOWED_NETWORKS, for example {network}",
    ),
    "networks_stand_in": (
        "{host} 解析为 {ip}：这是本机或网络中的代理（fake-ip 模式）给的假地址，公网图片会因此被拒绝。"
        "请让代理返回真实地址，或设 PRELABEL_ALLOWED_NETWORKS={network}",
        "{host} is looked up as {ip}, which a proxy on this machine or network hands out in place of the real address "
        "(fake-ip): pictures of the internet are refused for it. Have the proxy answer with real addresses, or set "
        "PRELABEL_ALLOWED_NETWORKS={network}",
    ),
    "networks_public_url": (
        "公网图片可以读取；地址以 {public} 开头的图片也可以，经 {url} 读取",
        "pictures of the public internet are fetched, and those of {public} at {url}",
    ),
}
