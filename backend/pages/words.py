"""Every text of the status page, in Chinese and English, and how times are said in each.

Knows words only; those of reasons are in `backend.reasons`. One nobody gave words to is shown as it is. Nothing here
raises.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from backend import reasons
from backend.pages.check_words import CHECKS, NAMES
from backend.pages.engine_words import Why
from backend.pages.numbers import Number, number

Language = Literal["zh", "en"]

TEXTS: dict[str, tuple[str, str]] = {
    "title": ("预标注进度", "Pre-labelling status"),
    "other_language": ("English", "中文"),
    "offline": (
        "暂时连不上 prelabel，下面是最后一次收到的数据；连上后会自动更新。",
        "prelabel does not answer. What you see is the last it said; it goes on by itself.",
    ),
    "problems": ("需要处理", "Needs attention"),
    "model": ("模型", "Model"),
    "no_model_name": ("尚未加载", "Not loaded yet"),
    "state.loading": ("加载中", "Loading"),
    "state.ready": ("就绪", "Ready"),
    "state.restarting": ("重启中", "Restarting"),
    "state.failed": ("失败", "Failed"),
    "state.stopped": ("已停止", "Stopped"),
    "most_free": (
        "在能用的显卡中（auto 时：在装得下最好模型的显卡中）它的空闲显存最多：{others}。PRELABEL_DEVICE 可指定另一块",
        "Of the cards that can be used, or for auto hold the best model, this one had the most free memory: {others}. "
        "PRELABEL_DEVICE names another",
    ),
    "card_named": ("这块显卡由 PRELABEL_DEVICE 指定", "PRELABEL_DEVICE names this card"),
    "loading_note": (
        "{stage}：{percent}。加载完成后会自动开始处理排队的任务。",
        "{stage}: {percent}. Waiting tasks start by themselves once it is loaded.",
    ),
    "stage_told": ("{stage}（{told}）", "{stage} ({told})"),
    "stage_left": ("还需 {time}", "{time} left"),
    "stalled": ("已有 {time}没有收到数据", "nothing has come for {time}"),
    "stalled.save": (
        "已有 {time}没有写入数据：PRELABEL_QUANTISED_DIR（未设则为 PRELABEL_DATA_DIR）所在的磁盘没有应答？"
        "10 分钟后将不保存副本，直接开始服务",
        "it stands still: nothing has been written for {time}. Does the disk of PRELABEL_QUANTISED_DIR answer, or of "
        "PRELABEL_DATA_DIR where that is not set? After 10 min it is left, and prelabel serves without the copy",
    ),
    "stalled.folders": (
        "已等待 {time}：PRELABEL_QUANTISED_DIR、PRELABEL_DATA_DIR、HF_HOME，或作为 PRELABEL_MODEL 的文件夹，"
        "其中之一所在的磁盘没有应答？网络盘请检查挂载",
        "no disk has answered for {time}: look at the one of PRELABEL_QUANTISED_DIR, PRELABEL_DATA_DIR, HF_HOME, or "
        "PRELABEL_MODEL where that is a folder, and at its mount if it is a network's",
    ),
    "stalled.tensors": (
        "已有 {time}没有读完下一个张量：存放模型的磁盘很慢，或没有应答",
        "no further tensor has been read whole for {time}: the model's disk is slow, or does not answer",
    ),
    "bytes_per_s": ("{num} MB/秒", "{num} MB/s"),
    "restarts": ("已自动重启 {num} 次", "automatic restarts: {num}"),
    "restarted_for": ("最近一次重启的原因：{said}", "Restarted last because of this: {said}"),
    "speed": ("速度", "Speed"),
    "last_minute": ("近一分钟", "last minute"),
    "per_second": ("{num} 张/秒", "{num} img/s"),
    "per_minute": ("{num} 张/分钟", "{num} img/min"),
    "waiting": ("排队", "Waiting"),
    "running": ("处理中", "Running"),
    "eta": ("预计剩余", "Time left"),
    "at_this_speed": ("按当前速度", "at this speed"),
    "now_running": ("处理中 {num}", "{num} running"),
    "eta_unknown": ("未知", "Unknown"),
    "eta_done": ("无等待", "Nothing waits"),
    "busy": ("计算时间", "Computing time"),
    "busy_gpu": ("GPU 计算时间", "GPU busy time"),
    "busy_cpu": ("CPU 计算时间", "CPU busy time"),
    "since_loaded": ("自模型加载起", "since the model was loaded"),
    "cost": ("计算费用", "Cost of busy time"),
    "cost_note": ("按 {price} 元/分钟", "at ¥{price} a minute"),
    "rest_cost": ("剩余任务约需", "The rest will cost"),
    "bulk_cost": ("每 1 万张约 {yuan}", "{yuan} per 10,000"),
    "yuan": ("¥{num}", "¥{num}"),
    "delivery": ("回传", "Delivery"),
    "delivery.push": ("结果会自动推送到 Label Studio：{url}", "Pushed to Label Studio at {url}"),
    "delivery.reply": (
        "没有设置 API 密钥：其余结果在下一次 Retrieve Predictions 时返回",
        "No API key: the rest waits for the next Retrieve Predictions",
    ),
    "delivery.paused": (
        "Label Studio 拒绝了 API 密钥，{wait}后重试。结果已保存，请检查 LABEL_STUDIO_API_KEY。",
        "Label Studio refuses the API key; next try in {wait}. The results are kept. Check LABEL_STUDIO_API_KEY.",
    ),
    "delivery.error": ("最近一次错误（{age}）：{said}", "Last error ({age}): {said}"),
    "model_said": ("模型进程的消息：{said}", "{said}"),
    "original": ("英文原文", "In the original"),
    "see_original": ("见英文原文", "see the original"),
    "delivery.success": ("最近一次成功：{age}", "Last success: {age}"),
    "delivery.dropped": (
        "{num} 条结果无法回传，原因见各项目的“失败”",
        "{num:result|results} can never be delivered; see what failed in each project",
    ),
    "set_aside": (
        "启动时发现数据文件已损坏，原文件保存在 {path}。"
        "其中尚未回传的任务，请在 Label Studio 中重新执行 Retrieve Predictions。",
        "The data file was found damaged at the start and was kept as {path}. For tasks still without predictions, "
        "choose Retrieve Predictions in Label Studio again.",
    ),
    "projects": ("项目", "Projects"),
    "project": ("项目 {id}", "Project {id}"),
    "unnamed_project": ("未指定项目", "No project given"),
    "more_projects": ("还有 {num} 个较早的项目未显示", "{num:older project is|older projects are} not shown"),
    "open_in_label_studio": ("在 Label Studio 中打开", "Open in Label Studio"),
    "of_tasks": ("{done} / {all} 张", "{done} / {all:image|images}"),
    "pending": ("待回传", "To deliver"),
    "returned": ("已返回，待确认", "Sent, unconfirmed"),
    "delivered": ("已在 Label Studio", "In Label Studio"),
    "withheld": ("盲检保留", "Withheld for the blind audit"),
    "withheld_note.push": (
        "{num} 个任务为盲检保留：答案已算好并保存，任务打开时是空的，请不看答案直接标注；"
        "标注提交后，结果会送到 Label Studio 存档。",
        "{num:task is|tasks are} withheld for the blind audit: answered, and still opening empty, to be labelled "
        "without an answer to look at. The answer comes to Label Studio when a person has labelled the task.",
    ),
    "withheld_note.reply": (
        "{num} 个任务为盲检保留：答案已算好并保存，任务打开时是空的，请不看答案直接标注。"
        "没有设置 API 密钥，无法得知标注是否完成：结果会一直保留在这里，直到 audit_share 设为 0。",
        "{num:task is|tasks are} withheld for the blind audit: answered, and still opening empty, to be labelled "
        "without an answer to look at. No API key, so nobody tells when that is done: answers stay here until "
        "audit_share is 0.",
    ),
    "needs_review": ("需人工复核", "Needs review"),
    "failed": ("失败", "Failed"),
    "older": ("旧配置的结果（未计入）", "Of earlier configs (not counted)"),
    "stale": (
        "Label Studio 中还有 {num} 条 prelabel 以前的配置或模型给出的预测。还没有按当前配置重新预标注的任务，"
        "请在 Data Manager 中选中，再点一次 Actions > Retrieve Predictions。"
        "旧预测里标为需要复核的任务也会留在复核标签页里，直到旧预测被删除。",
        "Label Studio still has {num:prediction|predictions} that prelabel made under earlier configs or models. Tasks "
        "that are not pre-filled under the present one yet: select them in the Data Manager and choose Actions > "
        "Retrieve Predictions again. A task that is marked for review under an earlier one stays in the tab for it "
        "until that prediction is deleted.",
    ),
    "delete_older": ("删除旧预测", "Delete earlier predictions"),
    "delete_older_sure": (
        "从 Label Studio 中删除这 {num} 条旧预测？当前版本的预测、人工标注和其他来源的预测都会保留；"
        "只有旧预测的任务将不再有预测。",
        "Delete {num:earlier prediction|earlier predictions} from Label Studio? Those of the present "
        "version, people's annotations and predictions of other origin stay; tasks that have only earlier ones will "
        "have none.",
    ),
    "delete_older_yes": ("确认删除", "Yes, delete"),
    "note.moved": (
        "{age}：项目在 Label Studio 中选用的模型版本已由“{text}”改为当前版本，ML 后端也改为同名，"
        "这样表单才会预填，Prediction score 才会显示。",
        "{age}: the model version chosen in the project's settings in Label Studio was “{text}”; it is the present one "
        "now, and the ML backend is named so. Only then is the form filled and are scores shown.",
    ),
    "note.kept": (
        "项目在 Label Studio 中选用的是“{text}”的预测，由人选定，未作更改：表单和 Prediction score 显示的是它。"
        "如要显示 prelabel 的预测，请在 Settings > Annotation 中选择。",
        "The project shows the predictions of “{text}”, which a person chose, so this was left: they fill the form, "
        "and theirs are the scores. To see those of prelabel, choose it under Settings > Annotation.",
    ),
    "note.deleted": (
        "{age}：已从 Label Studio 删除 {num} 条旧预测。",
        "{age}: {num:earlier prediction was|earlier predictions were} deleted in Label Studio.",
    ),
    "note.failed": (
        "{age}：无法检查或修改项目在 Label Studio 中的设置：{text}",
        "{age}: the project's settings in Label Studio could not be seen to: {text}",
    ),
    "quality": ("质量", "Quality"),
    "quality.version": (
        "{age}读取；针对模型版本 {version}",
        "Read {age}; of the answers under model version {version}",
    ),
    "quality.error": ("无法读取标注者的工作：{said}", "What people labelled cannot be read: {said}"),
    "cancelled": ("已取消", "Cancelled"),
    "gone": ("已不在 Label Studio（未计入）", "No longer in Label Studio (not counted)"),
    "done_by_people": ("失败后已由人工标注（未计入）", "Failed and annotated by people (not counted)"),
    "had_failed": ("人工标注的任务当初失败的原因：{counts}", "Why those that people annotated had failed: {counts}"),
    "not_counted": ("{reason}：{num} 个任务。{remedy}", "{reason}: {num:task|tasks}. {remedy}"),
    "times": ("开始于 {first}，最近请求 {last}", "Started {first}, last asked for {last}"),
    "last_finished": ("，最近完成 {age}", ", last finished {age}"),
    "full_stop": ("。", ". "),
    "failed_because": ("失败原因", "Why tasks failed"),
    "task": ("任务 {id}", "Task {id}"),
    "more_tasks": ("另有 {num} 个", "and {num} more"),
    "retry": ("重试失败的任务", "Retry what failed"),
    "did.retry": (
        "{project}：{num} 个失败的任务已重新排队。",
        "{project}: {num:failed task was|failed tasks were} put back, to be tried again.",
    ),
    "did.cancel": ("{project}：{num} 个任务已取消。", "{project}: {num:task was|tasks were} cancelled."),
    "did.delete-older": (
        "{project}：正在从 Label Studio 删除 {num} 条旧预测，完成后会写在项目中。",
        "{project}: {num:earlier prediction is|earlier predictions are} being deleted in Label Studio; the project "
        "says when that is done.",
    ),
    "cancel": ("取消排队", "Cancel the rest"),
    "cancel_sure": (
        "取消 {num} 个未完成的任务？已完成的结果会保留并照常回传。",
        "Cancel {num:unfinished task|unfinished tasks}? What is done is kept and still delivered.",
    ),
    "cancel_yes": ("确认取消", "Yes, cancel"),
    "next_step": (
        "已有 {num} 条结果等待返回："
        "请在 Label Studio 的 Data Manager 中选中任务，点击 Actions > Retrieve Predictions。"
        "没有 API 密钥，prelabel 看不到其中哪些任务已被删除，它们会一直计在这里。",
        "{num:result is|results are} waiting: select the tasks in Label Studio's Data Manager and choose "
        "Actions > Retrieve Predictions. Without an API key prelabel cannot see which tasks were deleted; "
        "those stay counted.",
    ),
    "empty_title": ("还没有任务", "No tasks yet"),
    "empty_text": (
        "打开 Label Studio 项目的 Data Manager，选中要预标注的任务，点击 Actions > Retrieve Predictions。"
        "进度会显示在这里。",
        "Open a project's Data Manager in Label Studio, select the tasks to pre-label, and choose "
        "Actions > Retrieve Predictions. Progress appears here.",
    ),
    "footer": ("数据每 2 秒自动更新", "Updates by itself every 2 seconds"),
    "just_now": ("刚刚", "just now"),
    "ago": ("{time}前", "{time} ago"),
    "seconds": ("{num} 秒", "{num} s"),
    "minutes": ("{num} 分钟", "{num} min"),
    "hours": ("{num} 小时", "{num} h"),
    "days": ("{num} 天", "{num} d"),
}

STAGES: dict[str, tuple[str, str]] = {
    "starting": ("启动模型进程", "Starting the model's process"),
    "replica": ("等待模型副本", "Waiting for an engine replica"),
    "folders": ("检查文件夹", "Looking at the folders"),
    "card_again": ("等待显卡", "Waiting for the card"),
    "trial": ("试用显卡", "Trying the card"),
    "resolve": ("查找模型", "Finding the model"),
    "download": ("下载模型", "Downloading the model"),
    "download_again": ("等待重新下载", "Waiting to download again"),
    "check": ("校验文件", "Checking the files"),
    "quantise": ("4-bit 量化", "Quantising to 4 bits"),
    "load": ("载入权重", "Loading the weights"),
    "load_copy": ("载入上次保存的 4-bit 权重", "Loading the 4-bit weights that an earlier start has saved"),
    "random_weights": ("生成随机权重", "Making random weights"),
    "save": ("保存 4-bit 权重", "Saving the 4-bit weights"),
    "kernels": ("核对并选择 GPU 内核", "Checking and choosing the card's kernels"),
    "memory": ("测量显存", "Measuring the card's memory"),
    "graphs": ("录制并核对 CUDA graph", "Capturing and checking CUDA graphs"),
    "ready": ("准备推理", "Getting ready"),
}

STALLED = {
    "save": "stalled.save", "folders": "stalled.folders",
    **dict.fromkeys(("quantise", "load", "load_copy"), "stalled.tensors"),
}  # fmt: skip
"""How a stage is said to stand still, where bytes from another machine are not what it waits for."""

SAID = ("said", "reason")
"""Values of checks that are others' English sentences."""

_UNITS = (("days", 86_400), ("hours", 3_600), ("minutes", 60), ("seconds", 1))


class Words:
    """Texts, numbers and times in one language. Gives plain text: escaping is the page's."""

    texts: ClassVar[Mapping[str, tuple[str, str]]] = TEXTS

    def __init__(self, language: Language) -> None:
        self.language: Language = language
        self._column = 0 if language == "zh" else 1

    def __call__(self, key: str, **values: str) -> str:
        return _filled(self.texts[key][self._column], values)

    def quoted(self, said: str) -> str:
        """What another part said in English, within a text of ours: in Chinese only that it stands beside the text.
        Numbers alone are of every language."""
        is_english = any(map(str.isalpha, said))
        return self("see_original") if is_english and self.language != "en" else said

    def note(self, kind: str, text: str, num: int, age: str) -> str:
        """What was done in a project's settings in Label Studio; "" of a kind that has no words."""
        key = f"note.{kind}"
        text = self.quoted(text) if kind == "failed" else text
        return self(key, text=text, num=number(num), age=age) if key in TEXTS else ""

    def state(self, state: str) -> str:
        return self(f"state.{state}") if f"state.{state}" in TEXTS else state

    def reason(self, reason: str) -> str:
        """What it means."""
        row = reasons.known(reason)
        return (row.means_zh, row.means_en)[self._column] if row else reason

    def remedy(self, reason: str) -> str:
        """What a person can do about it, "" if nobody knows."""
        row = reasons.known(reason)
        return (row.do_zh, row.do_en)[self._column] if row else ""

    def counts(self, reasons: Mapping[str, int]) -> str:
        """Each reason with how often."""
        return ("、" if self.language == "zh" else ", ").join(
            f"{self.reason(r)} {number(n)}" for r, n in reasons.items()
        )

    def busy(self, device: str) -> str:
        """What the engine's own time is called: `device` is where it works, "" if nobody knows yet."""
        return self("busy_gpu" if device.startswith("cuda") else "busy_cpu" if device.startswith("cpu") else "busy")

    def check_name(self, name: str) -> str:
        return NAMES[name][self._column] if name in NAMES else name

    def check(self, code: str, values: Mapping[str, str]) -> str:
        """What a check says. A code nobody gave words to, or whose values are others, is shown as it is."""
        if code not in CHECKS:
            return code
        text = CHECKS[code][self._column]
        try:
            said = {name: self.quoted(values[name]) for name in SAID if name in values}
            at = {"stage": self.stage(values["stage"])} if "stage" in values else {}
            return _filled(text, {**values, **said, **at})
        except (KeyError, ValueError, IndexError):  # of a backend of another version
            return text

    def why(self, why: Sequence[Why], message: str = "") -> str:
        """Why an engine is not ready; `message` where only others' English is known."""
        if message and (self.language == "en" or not why):
            return self.quoted(message)
        return ("" if self.language == "zh" else " ").join(self.check(one.code, one.values) for one in why)

    def stage(self, stage: str, bytes_per_s: float = 0.0, left_s: float | None = None, stalled_s: float = 0.0) -> str:
        """ "Downloading the model (110 MB/s, 6 min left)": what is not known is left out; or for how long none came."""
        name = STAGES[stage][self._column] if stage in STAGES else stage
        told = [self("bytes_per_s", num=number(bytes_per_s / 1e6, 1))] if bytes_per_s else []
        if stalled_s:
            told.append(self(STALLED.get(stage, "stalled"), time=self.duration(stalled_s)))
        if left_s is not None:
            told.append(self("stage_left", time=self.duration(left_s)))
        return (
            self("stage_told", stage=name, told=("，" if self.language == "zh" else ", ").join(told)) if told else name
        )

    def rate(self, images_per_s: float) -> str:
        """Slow speeds a minute: "0.02 images/s" tells nobody anything."""
        if images_per_s and images_per_s < 1:
            return self("per_minute", num=number(images_per_s * 60, 1))
        return self("per_second", num=number(images_per_s, 1))

    def yuan(self, amount: float) -> str:
        return self("yuan", num=number(amount, 2))

    def duration(self, seconds: float, num_units: int = 2) -> str:
        """The largest units, rounded down: "2 h 5 min", "40 s"."""
        left = max(0, int(seconds))
        first = next((i for i, (_, size) in enumerate(_UNITS) if left >= size), len(_UNITS) - 1)
        parts: list[str] = []
        for unit, size in _UNITS[first : first + num_units]:
            count, left = divmod(left, size)
            if count or not parts:
                parts.append(self(unit, num=number(count)))
        return " ".join(parts)

    def age(self, at: float, now: float) -> str:
        """How long ago, with no time zone to get wrong."""
        seconds = now - at
        return self("just_now") if seconds < 2 else self("ago", time=self.duration(seconds, num_units=1))


def _filled(text: str, values: Mapping[str, str]) -> str:
    """`text` with `values`, any of which it may count by, as a `Number`."""
    return text.format_map({name: Number(value) for name, value in values.items()})
