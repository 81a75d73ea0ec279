"""Why an engine is not ready, in Chinese and English: what has ended its process, and what a model was refused for.

Sentences that follow each other: one that ends with a colon is followed by what it speaks of. Knows words only.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Why:
    """A sentence: a `code` that ENGINE_WORDS or `check_words.CHECKS` has words for, and what these name."""

    code: str
    values: dict[str, str] = field(default_factory=dict)


ENGINE_WORDS: dict[str, tuple[str, str]] = {
    # the engine's process
    "engine_said": ("{said}", "{said}"),
    "engine_closed": ("已关闭", "closed"),
    "engine_ended": (
        "模型进程已结束，退出码 {exitcode}",
        "the engine process ended with exit code {exitcode}",
    ),
    "engine_killed": (
        "模型进程已结束，退出码 {exitcode}：它被强行终止。内存不足时系统会这样做（`dmesg` 会写明）",
        "the engine process ended with exit code {exitcode}: it was killed, as the system does when this machine's "
        "memory is full (`dmesg` says so)",
    ),
    "engine_crashed": (
        "模型进程崩溃，退出码 {exitcode}：日志中写明了出错的位置。请按 constraints.txt 安装，并更新显卡驱动",
        "the engine process crashed with exit code {exitcode}: the log says where. Install the versions of "
        "constraints.txt, and update the card's driver",
    ),
    "engine_file_lost": (
        "模型进程已结束，退出码 {exitcode}：它正在读取的文件被截短了，或磁盘出错（`dmesg` 会写明）。"
        "请检查磁盘，或把模型复制到另一块磁盘（HF_HOME、PRELABEL_QUANTISED_DIR）",
        "the engine process ended with exit code {exitcode}: a file that it was reading was cut short, or its disk "
        "failed (`dmesg` says so). Look at the disk, or copy the model to another one (HF_HOME, "
        "PRELABEL_QUANTISED_DIR)",
    ),
    "engine_while": ("在“{stage}”时：", "at “{stage}”:"),
    "engine_device": (
        "模型进程已结束，退出码 {exitcode}：显卡出错，详见日志",
        "the engine process ended with exit code {exitcode}: the device failed, the log says how",
    ),
    "engine_library": (
        "模型进程已结束，退出码 {exitcode}：是某个库结束了它。显卡出错或不受支持时 bitsandbytes 会这样做，"
        "日志里在这之前写着原因（“Error ... at line ...”）。请按 constraints.txt 安装，并在 `dmesg` 中查找 Xid",
        "the engine process ended with exit code {exitcode}: a library ended it, as bitsandbytes does where the card "
        "fails or is not supported; the log says why before this line (“Error ... at line ...”). Install the versions "
        "of constraints.txt, and look for Xid in `dmesg`",
    ),
    "engine_not_started": (
        "模型进程无法启动（{said}）：内存不足，或进程、线程、打开的文件已到上限（ulimit -u、ulimit -n、容器的 pids），"
        "或 prelabel 的安装位置变了。会自动重试几次；若仍如此，请处理后重启 prelabel",
        "the engine's process cannot be started ({said}): there is no memory left, or a limit of processes, threads or "
        "open files is reached (ulimit -u, ulimit -n, the container's pids), or prelabel's environment was moved. It "
        "is tried a few times; if it stays so, see to that and start prelabel again",
    ),
    "engine_not_imported": (
        "模型进程还没有开始就已结束，退出码 {exitcode}：日志中在这之前有 Python 的错误信息。如果 prelabel "
        "运行时更新过它或它的库，请重启 prelabel；否则请按 constraints.txt 重新安装",
        "the engine process ended with exit code {exitcode} before it had begun: the log has Python's own error before "
        "this line. Where prelabel or its libraries were updated while it ran, start prelabel again; else install the "
        "versions of constraints.txt anew",
    ),
    "engine_silent": (
        "模型进程 {limit} 秒没有响应，已被结束",
        "the engine said nothing for {limit} s and was ended",
    ),
    "engine_silent_at": (
        "模型进程在“{stage}”时 {limit} 秒没有响应，已被结束",
        "the engine said nothing for {limit} s at “{stage}” and was ended",
    ),
    "engine_stood_still": (
        "加载在“{stage}”（{percent}）停了 {limit} 秒没有进展，已被结束。请检查网络、磁盘和 `dmesg`，然后重启 prelabel",
        "loading stood still at “{stage}” ({percent}) for {limit} s and was ended; look at the network, the disks and "
        "`dmesg`, and start prelabel again",
    ),
    "engine_not_begun": (
        "“{stage}”停了 {limit} 秒没有进展，已被结束：多半是显卡驱动没有应答。nvidia-smi 有响应吗？请在 `dmesg` 中查找 "
        "Xid，必要时重启机器，然后重启 prelabel",
        "“{stage}” stood still for {limit} s and was ended: most often the card's driver does not answer. Does "
        "nvidia-smi? Look for Xid in `dmesg`, restart the machine if need be, and start prelabel again",
    ),
    "engine_disk_silent": (
        "“{stage}”停了 {limit} 秒没有进展，已被结束：PRELABEL_QUANTISED_DIR、PRELABEL_DATA_DIR、HF_HOME，"
        "或作为 PRELABEL_MODEL 的文件夹，其中之一所在的磁盘没有应答。请检查挂载和 `dmesg`，然后重启 prelabel",
        "“{stage}” stood still for {limit} s and was ended: a disk does not answer, that of PRELABEL_QUANTISED_DIR, "
        "PRELABEL_DATA_DIR, HF_HOME, or of PRELABEL_MODEL where that is a folder. Look at the mounts and `dmesg`, and "
        "start prelabel again",
    ),
    "engine_died_often": (
        "模型进程连续 {times} 次异常结束；请看日志，然后重启 prelabel。最后一次：",
        "the engine process died {times:time|times} in a row; see the log, restart prelabel. The last time:",
    ),
    "engine_other_model": (
        "模型不再是启动时的那一个（当时：{first}；现在：{now}）：它的文件或 4-bit 副本已被替换。"
        "为了不让结果带错模型版本，不再作答；请重启 prelabel，之后的结果带新的模型版本",
        "the model is not the one that was started with any more (then {first}, now {now}): its files, or those of its "
        "4-bit copy, were replaced. So that no answer has the wrong model version, there are none; start prelabel "
        "again, and its answers have the new one",
    ),
    "engine_card_again": (
        "显卡暂时不能用，会自动重试，最多等 {hours} 小时：",
        "the card cannot be used yet, and it is tried again by itself, for {hours} h of waiting at most:",
    ),
    "engine_left": (
        "之前的模型进程已被终止，但显卡驱动没有放开它，显存可能仍被它占着：若一直如此，只有重启机器才有用。",
        "an earlier engine process was killed, and the driver does not let it go; it may be what holds the card: if it "
        "stays so, only restarting the machine helps;",
    ),
    "engine_refused_again": ("模型无法再次加载：", "the model could not be loaded again:"),
    "engine_without_segments": (
        "正在重新启动，不用可扩展显存段：",
        "it starts again without segments:",
    ),
    "engine_download_again": (
        "下载中断，会自动重试；连续 12 小时没有进展才会放弃（{said}）。请检查网络和磁盘空间，"
        "或用 HF_ENDPOINT 指定镜像。",
        "the download is tried again by itself, and given up 12 h after the last file that came: {said}",
    ),
    "engine_without_copy": (
        "正在重新启动，不保存 4-bit 副本：",
        "it starts again without saving the 4-bit copy:",
    ),
    "engine_without_kernels": (
        "正在重新启动，不用 Triton 内核：",
        "it starts again without kernels:",
    ),
    "engine_without_graphs": (
        "正在重新启动，不用 CUDA graph：",
        "it starts again without graphs:",
    ),
    "engine_unsupervised": (
        "模型进程无法再被监管（{kind}）；请重启 prelabel",
        "the engine cannot be supervised: {kind}; restart prelabel",
    ),
    "engine_replicas_differ": (
        "各副本加载了不同的模型：{models}。请为所有副本设同一个 PRELABEL_MODEL；如果名称相同，则是文件不同，"
        "或其中一份 4-bit 副本是旧版 prelabel 做的：请从 PRELABEL_QUANTISED_DIR 中删除它，会重新生成。",
        "the replicas have loaded different models: {models}. Set PRELABEL_MODEL for all. Of the same name, their "
        "files differ, or one is a 4-bit copy that an earlier prelabel has made: remove it from "
        "PRELABEL_QUANTISED_DIR, and it is made anew.",
    ),
    "engine_at": ("{place}：", "{place}:"),
    # what a model is refused for: a kind of ModelError each, where no more is known than its sentence
    "ModelNotFound": (
        "找不到模型，或本机缓存不完整（{said}）。请检查 PRELABEL_MODEL、PRELABEL_MODEL_REVISION 和 HF_HOME；"
        "设了 HF_HUB_OFFLINE 或 TRANSFORMERS_OFFLINE 就不会下载。",
        "{said}",
    ),
    "DownloadFailed": (
        "模型下载失败（{said}）。请检查网络、磁盘空间，或用 HF_ENDPOINT 指定镜像，然后重启 prelabel："
        "已下载的文件不会重下。",
        "{said}",
    ),
    "ModelFilesInvalid": (
        "模型文件不完整或已损坏（{said}）。请删除有问题的文件并重新下载。",
        "{said}",
    ),
    "UnsafeModelFiles": (
        "模型文件不安全，已拒绝：它要运行自带的代码，或不是 .safetensors（{said}）。请换用官方的模型文件。",
        "{said}",
    ),
    "UnsupportedModel": (
        "不支持这种模型（{said}）。请用 Qwen3-VL（docs/cards.md）。",
        "{said}",
    ),
    "ModelTooLarge": (
        "显存放不下这个模型（{said}）。请结束占用显卡的程序，或换更小的模型、更大的显卡（docs/cards.md）。",
        "{said}",
    ),
    "CardUnusable": (
        "显卡无法使用（{said}）。请运行 prelabel doctor 查明原因。",
        "{said}",
    ),
    "MachineUnfit": (
        "本机的内存或磁盘不能满足要求（{said}）。请运行 prelabel doctor 查明原因。",
        "{said}",
    ),
    "SetupIncomplete": (
        "缺少加载模型所需的库或工具，或版本不对（{said}）。请按 constraints.txt 安装。",
        "{said}",
    ),
    "ModelError": ("模型无法加载（{said}）。", "{said}"),
    "LoadingFailed": (
        "模型无法加载（{said}）。日志中有完整的错误。",
        "{said}",
    ),
}
