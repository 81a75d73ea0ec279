"""Every short reason for which a picture, a task or a delivery fails: what it means, and what a person can do about it.

The one table of them. Pages, terminal, report, log and docs/troubleshooting.md (scripts/generate_docs.py) say the same.
A reason is raised as a `Reason`, so that mypy refuses one without a row; what is read back from files of another
version may be anything, and `known` then has no row. Knows no settings beyond their names. Nothing here raises.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Reason = Literal[
    "image_missing", "image_blocked", "image_private_address", "image_not_found", "image_forbidden",
    "image_unreachable", "image_timeout", "image_too_large", "image_not_an_image",
    "image_unsupported_format", "image_corrupt",
    "image_too_many_pixels", "image_bad_shape", "image_unsupported_source", "image_label_studio_auth",
    "image_upload_deleted", "image_no_storage",
    "engine_busy", "engine_not_ready", "engine_dead", "crashed", "out_of_memory", "too_long", "bad_grammar",
    "bad_picture", "generation_failed", "malformed_answer", "internal",
    "deadline", "told", "withheld", "cancelled", "model_changed", "address_withheld", "store",
    "task_deleted", "project_deleted", "config_changed", "rejected", "refused", "too_large", "not_a_task",
    "unreadable",
    "unsent", "busy", "in_doubt", "unauthorized", "not_found", "interrupted",
    "folder_unreadable", "file_unreadable", "broken_link", "unread_format", "row_without_picture", "row_unusable",
    "not_a_picture", "empty_file", "hidden_file", "special_file", "folder_twice", "named_twice", "other_sheet",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Explained:
    """`means_*` is a clause without a full stop, `do_*` whole sentences that name `settings` (environment variables of
    prelabel). How to try again is said where the reason is shown: a button, an option."""

    reason: Reason
    means_zh: str
    means_en: str
    do_zh: str
    do_en: str
    settings: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """In English, for terminals and logs."""
        return f"{self.means_en}. {self.do_en}"


PICTURES = (
    Explained(
        "image_missing",
        "任务没有图片地址",
        "The task has no picture",
        "检查标注配置中 <Image> 的 value：它要写任务数据里放图片地址的那个字段，且该字段不能为空。",
        "Check the value of <Image> in the label config: it names the field of the task's data that holds the "
        "picture's address, and that field must not be empty.",
    ),
    Explained(
        "image_blocked",
        "图片地址不允许访问",
        "The picture's address is not allowed",
        "改正任务里的图片地址：http(s) 网址不能带用户名、密码或反斜杠，也不能从 https 跳转到 http；"
        "本地文件必须在 PRELABEL_LOCAL_FILES_ROOT 文件夹内。",
        "Correct the address in the task: an http(s) address has no user name, password or backslash in it and does "
        "not lead from https to http; a local file lies within PRELABEL_LOCAL_FILES_ROOT.",
        ("PRELABEL_LOCAL_FILES_ROOT",),
    ),
    Explained(
        "image_private_address",
        "图片服务器在内网（或端口不是 80、443），未被允许",
        "The picture's server is on a private network, or on another port than 80 and 443, which was not allowed",
        "如果图片本来就放在那里：把它的网段（例如 10.1.0.0/16）加入 PRELABEL_ALLOWED_NETWORKS 并重启 prelabel。"
        "如果说明里的地址是 198.18 开头：那是本机代理（fake-ip 模式）给的假地址，让代理返回真实地址，"
        "或把 198.18.0.0/15 加入该设置。"
        "如果那就是 Label Studio：把 LABEL_STUDIO_PUBLIC_URL 设成任务里的那个地址。",
        "If pictures are meant to come from there, add its network (such as 10.1.0.0/16) to PRELABEL_ALLOWED_NETWORKS "
        "and restart prelabel. If its message has an address that begins with 198.18, a proxy (fake-ip) hands that "
        "out: have it answer with real addresses, or add 198.18.0.0/15 there. If it is Label Studio itself, set "
        "LABEL_STUDIO_PUBLIC_URL to its address as the tasks have it.",
        ("PRELABEL_ALLOWED_NETWORKS", "LABEL_STUDIO_PUBLIC_URL"),
    ),
    Explained(
        "image_not_found",
        "图片不存在",
        "The picture is not there",
        "检查任务里的图片地址，以及文件是否还在；本地文件要在 PRELABEL_LOCAL_FILES_ROOT 文件夹内，"
        "且允许 prelabel 读取。",
        "Check the address, and that the file is still there; a local file of a task lies within "
        "PRELABEL_LOCAL_FILES_ROOT, and prelabel may read it.",
        ("PRELABEL_LOCAL_FILES_ROOT",),
    ),
    Explained(
        "image_forbidden",
        "没有权限访问图片",
        "No permission for the picture",
        "可能是防盗链：用 PRELABEL_PICTURE_HEADERS 给该图片服务器设置它要求的 Referer（通常是商品页所在网站的地址）；"
        "也可能是带签名的地址已过期：重新生成并更新任务；或者服务器不允许 prelabel 所在的机器读取。",
        "It may be hot-link protection: name the Referer that the host wants (most often the address of the shop's own "
        "site) in PRELABEL_PICTURE_HEADERS. Or a signed address has expired: sign it anew and update the task. Or the "
        "host does not let prelabel's machine in.",
        ("PRELABEL_PICTURE_HEADERS",),
    ),
    Explained(
        "image_unreachable",
        "图片服务器无法连接",
        "The picture's server cannot be reached",
        "检查图片服务器是否在运行、从 prelabel 所在的机器能否访问；"
        "如果那是浏览器里 Label Studio 的地址，把它设为 LABEL_STUDIO_PUBLIC_URL；"
        "如果证书由自己的机构签发，用 PRELABEL_EXTRA_CA_FILE 指定该机构的证书文件。",
        "Check that the server runs and can be reached from prelabel's machine. If it is Label Studio's address in "
        "browsers, set LABEL_STUDIO_PUBLIC_URL to it. If an authority of your own signed its certificate, name that "
        "authority's file in PRELABEL_EXTRA_CA_FILE.",
        ("LABEL_STUDIO_PUBLIC_URL", "PRELABEL_EXTRA_CA_FILE"),
    ),
    Explained(
        "image_timeout",
        "下载图片超时",
        "The picture came too slowly",
        "稍后重试；如果经常如此，检查图片服务器和网络的速度，或改用更小的文件。",
        "Try again later. If it happens often, look at the speed of the server and the network, or use smaller files.",
    ),
    Explained(
        "image_too_large",
        "图片文件过大",
        "The picture's file is too large",
        "把图片另存为更小的文件（例如较高压缩率的 JPEG），再更新任务；上限见该任务的说明。",
        "Save it as a smaller file, such as a JPEG of lower quality, and update the task; its message has the limit.",
    ),
    Explained(
        "image_not_an_image",
        "文件不是图片",
        "The file is no picture",
        "使用 JPEG、PNG、WebP、GIF、BMP、TIFF、AVIF 或 HEIC；如果得到的是网页，说明地址不是图片本身，或需要登录。",
        "Use JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or HEIC. If a web page came, the address is not that of the picture "
        "itself, or it asks for a login.",
    ),
    Explained(
        "image_unsupported_format",
        "不支持的图片格式",
        "A picture of a format that is not read",
        "把图片另存为 JPEG 或 PNG，再更新任务；HEIC（手机照片）需要安装 prelabel 的可选依赖 heic（pillow-heif）。",
        "Save it as JPEG or PNG and update the task. HEIC, which phones make, needs prelabel's extra heic "
        "(pillow-heif).",
    ),
    Explained(
        "image_corrupt",
        "图片已损坏",
        "The picture is damaged",
        "打开图片看一看，重新导出或重新上传。",
        "Open it yourself; export it or upload it again.",
    ),
    Explained(
        "image_too_many_pixels",
        "图片像素过多",
        "The picture has too many pixels",
        "把图片缩小后再更新任务；上限见该任务的说明。",
        "Scale it down and update the task; its message has the limit.",
    ),
    Explained(
        "image_bad_shape",
        "图片长宽比异常",
        "The picture is too narrow or too small",
        "把长图裁成几张，或去掉这张图片；上限见该任务的说明。",
        "Cut a long picture into several, or leave it out; its message has the limit.",
    ),
    Explained(
        "image_unsupported_source",
        "不支持的图片来源",
        "Pictures from such a source are not supported",
        "使用 http(s) 网址，或存放在 Label Studio 里的图片；后者需要设置 LABEL_STUDIO_URL 和 LABEL_STUDIO_API_KEY。",
        "Use http(s) addresses, or pictures that are stored in Label Studio; for those set LABEL_STUDIO_URL and "
        "LABEL_STUDIO_API_KEY.",
        ("LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY"),
    ),
    Explained(
        "image_label_studio_auth",
        "Label Studio 拒绝提供图片",
        "Label Studio refused to give the picture",
        "检查 LABEL_STUDIO_API_KEY（未过期，且其用户是项目成员）和 LABEL_STUDIO_URL（Label Studio 自己使用的地址）；"
        "本地文件还要求 Label Studio 打开本地文件服务。",
        "Check LABEL_STUDIO_API_KEY (not expired, its user a member of the project) and LABEL_STUDIO_URL (the address "
        "Label Studio itself uses); for local files, that Label Studio serves local files.",
        ("LABEL_STUDIO_API_KEY", "LABEL_STUDIO_URL"),
    ),
    Explained(
        "image_upload_deleted",
        "上传到 Label Studio 的图片文件已删除",
        "The file was uploaded to Label Studio and is deleted there",
        "任务还在，但文件没有了，重试没有用：重新上传图片（会成为新任务），并删除这个任务。",
        "The task is there and its file is not, so a retry does not help: upload the picture again, which makes a new "
        "task, and delete this one.",
    ),
    Explained(
        "image_no_storage",
        "项目没有连接存放图片的云存储（s3://、gs://、azure-blob://）",
        "The project has no cloud storage that holds the picture (s3://, gs://, azure-blob://)",
        "在 Label Studio 项目的 Settings > Cloud Storage 里添加该存储桶（Add Source Storage），再重试；"
        "如果任务已被删除，不用处理。",
        "Add the bucket under Settings > Cloud Storage > Add Source Storage of the project in Label Studio and try "
        "again. Nothing, if the task was deleted.",
    ),
)

MODEL = (
    Explained(
        "engine_busy",
        "排队已满",
        "The queue was full",
        "等正在处理的任务完成后再试。",
        "Try again when what is under way has ended.",
    ),
    Explained(
        "engine_not_ready",
        "模型尚未加载",
        "The model was not loaded",
        "等状态页显示模型“就绪”后再试；日志说明加载到哪一步。",
        "Try again once the model is ready; the log says how far it is.",
    ),
    Explained(
        "engine_dead",
        "模型进程已退出",
        "The model's process ended",
        "查看日志中的原因，运行 prelabel doctor 检查机器，然后重启 prelabel。",
        "Read in the log why, check the machine with prelabel doctor, and start prelabel again.",
    ),
    Explained(
        "crashed",
        "处理该图片时模型多次异常退出",
        "The model ended several times while working on it",
        "把这张图片另存一份再试，或不用它；如果很多图片都这样，查看日志，并调小 PRELABEL_MAX_SLOTS 或 "
        "PRELABEL_IMAGE_TOKENS。",
        "Save the picture anew or leave it out. If it happens to many, read the log and lower PRELABEL_MAX_SLOTS or "
        "PRELABEL_IMAGE_TOKENS.",
        ("PRELABEL_MAX_SLOTS", "PRELABEL_IMAGE_TOKENS"),
    ),
    Explained(
        "out_of_memory",
        "内存不足，放不下这张图片",
        "The memory does not hold this picture",
        "调小 PRELABEL_IMAGE_TOKENS，或结束占用同一张显卡的其他程序，然后重启 prelabel。",
        "Lower PRELABEL_IMAGE_TOKENS, or end other programs that use the same card, and restart prelabel.",
        ("PRELABEL_IMAGE_TOKENS",),
    ),
    Explained(
        "too_long",
        "标签说明和图片合起来太长",
        "The instruction and the picture are too long together",
        "精简标注配置或补充说明（extra_instructions），或调小 PRELABEL_IMAGE_TOKENS。",
        "Shorten the label config or the project's extra_instructions, or lower PRELABEL_IMAGE_TOKENS.",
        ("PRELABEL_IMAGE_TOKENS",),
    ),
    Explained(
        "bad_grammar",
        "标注配置过于复杂，无法约束模型的回答",
        "The label config is too complex to hold the model's answers to it",
        "简化标注配置：减少字段或标签，缩短标签名。",
        "Simplify the label config: fewer fields or labels, shorter names.",
    ),
    Explained(
        "bad_picture",
        "模型无法处理该图片",
        "The model cannot take this picture",
        "把图片另存为普通的 JPEG 或 PNG 再试；日志有详细原因。",
        "Save it as an ordinary JPEG or PNG and try again; the log says more.",
    ),
    Explained(
        "generation_failed",
        "模型未能给出结果",
        "The model could not answer",
        "重试一次；如果仍然失败，查看日志。",
        "Try again; if it fails once more, read the log.",
    ),
    Explained(
        "malformed_answer",
        "模型的回答不完整",
        "The model's answer was incomplete",
        "在项目的模型设置（extra params）里调大 max_new_tokens，再重试。",
        "Raise max_new_tokens in the extra params of the project's model settings and try again.",
    ),
    Explained(
        "internal",
        "prelabel 内部错误，详见日志",
        "A fault in prelabel; its log says more",
        "重试一次；如果仍然失败，把日志中的这一段交给维护者。",
        "Try again; if it fails once more, give that part of the log to whoever maintains prelabel.",
    ),
)

TASKS = (
    Explained(
        "deadline",
        "没有及时完成",
        "Not finished in time",
        "不用处理：设置了 LABEL_STUDIO_API_KEY 时，结果完成后会自动推送；否则稍后再次点击 Retrieve Predictions。",
        "Nothing: with LABEL_STUDIO_API_KEY set it is pushed when it is done; without, choose Retrieve Predictions "
        "again later.",
        ("LABEL_STUDIO_API_KEY",),
    ),
    Explained(
        "told",
        "结果正由另一次返回或推送送往 Label Studio",
        "Another reply or a push brings it to Label Studio",
        "不用处理，稍等片刻。",
        "Nothing; wait a moment.",
    ),
    Explained(
        "withheld",
        "为盲检保留，不显示预标注结果",
        "Withheld for the blind audit",
        "不用处理：请不看答案直接标注。标注提交后，结果会送到 Label Studio 存档；audit_share 设为 0 即结束盲检。",
        "Nothing: label it without an answer to look at. Its answer comes to Label Studio when a person has labelled "
        "it; audit_share 0 ends the audit.",
    ),
    Explained(
        "cancelled",
        "已取消",
        "Cancelled",
        "仍然需要时，在 Label Studio 中再次点击 Retrieve Predictions。",
        "If it is still wanted, choose Retrieve Predictions in Label Studio again.",
    ),
    Explained(
        "model_changed",
        "提交后模型或设置已更改",
        "The model or its settings changed since it was asked for",
        "在 Label Studio 中再次点击 Retrieve Predictions。",
        "Choose Retrieve Predictions in Label Studio again.",
    ),
    Explained(
        "address_withheld",
        "图片地址含密钥，不写入磁盘，重启后已不在",
        "Its address holds a key and was not kept over a restart",
        "在 Label Studio 中再次点击 Retrieve Predictions。",
        "Choose Retrieve Predictions in Label Studio again.",
    ),
    Explained(
        "store",
        "数据文件一时无法写入，结果已保留",
        "The data file could not be written just then; the answer is kept",
        "检查 PRELABEL_DATA_DIR 所在磁盘的空间，然后再次请求预测。",
        "See to the free space on the disk of PRELABEL_DATA_DIR, then ask again.",
        ("PRELABEL_DATA_DIR",),
    ),
)

RESULTS = (
    Explained(
        "task_deleted",
        "任务已在 Label Studio 中删除",
        "The task was deleted in Label Studio",
        "不用处理；如果是误删，重新导入任务再请求预测。",
        "Nothing; if that was a mistake, import the task again and ask for its prediction.",
    ),
    Explained(
        "project_deleted",
        "项目已在 Label Studio 中删除",
        "The project was deleted in Label Studio",
        "如果项目还在：LABEL_STUDIO_URL 必须是该项目所在的 Label Studio。改正并重启 prelabel，已有的结果会自动回传，"
        "其余任务请再次点击 Retrieve Predictions。否则不用处理。",
        "If it is still there, LABEL_STUDIO_URL must be the Label Studio that has it: correct it and restart prelabel. "
        "What is answered is delivered then; for the rest choose Retrieve Predictions again. Else nothing.",
        ("LABEL_STUDIO_URL",),
    ),
    Explained(
        "config_changed",
        "标注配置已更改",
        "The label config has changed",
        "在 Label Studio 中再次点击 Retrieve Predictions，按现在的配置重新标注。",
        "Choose Retrieve Predictions in Label Studio again: the tasks are answered under the present config.",
    ),
    Explained(
        "rejected",
        "Label Studio 不接受该结果",
        "Label Studio rejected the result",
        "查看 Label Studio 的日志，然后重试。",
        "Read in Label Studio's log why, then try again.",
    ),
    Explained(
        "refused",
        "Label Studio 拒绝了请求",
        "Label Studio refused the request",
        "查看错误说明和 Label Studio 的日志；确认标注配置没有改动，然后重试。",
        "Read the message and Label Studio's log; see that the label config is the one it was asked for, then try "
        "again.",
    ),
    Explained(
        "too_large",
        "结果过大，Label Studio 不接收",
        "The result is too large for Label Studio",
        "调大 Label Studio 或其前面代理服务器的请求大小上限（nginx 的 client_max_body_size），然后重试。",
        "Raise the largest request that Label Studio, or the proxy before it, takes (client_max_body_size in nginx), "
        "then try again.",
    ),
    Explained(
        "not_a_task",
        "不是 Label Studio 的任务",
        "Not a task of Label Studio",
        "不用处理：编号不是数字，无法回传，结果只在返回给请求者的内容里。",
        "Nothing: its id is no number, so it cannot be pushed; only who asked gets the result.",
    ),
    Explained(
        "unreadable",
        "保存的结果无法读取",
        "The stored result cannot be read",
        "再次点击 Retrieve Predictions 重新标注；日志有详细原因。",
        "Choose Retrieve Predictions again; the log says more.",
    ),
)

DELIVERY = (
    Explained(
        "unsent",
        "连不上 Label Studio",
        "Label Studio cannot be reached",
        "检查 Label Studio 是否在运行，LABEL_STUDIO_URL 从 prelabel 所在的机器能否打开；"
        "自己签发的证书用 PRELABEL_EXTRA_CA_FILE 指定。结果已保存，会自动重试。",
        "Check that Label Studio runs and that prelabel's machine can open LABEL_STUDIO_URL; for a certificate of an "
        "authority of your own set PRELABEL_EXTRA_CA_FILE. The results are kept and tried again by themselves.",
        ("LABEL_STUDIO_URL", "PRELABEL_EXTRA_CA_FILE"),
    ),
    Explained(
        "busy",
        "Label Studio 一时忙不过来",
        "Label Studio is busy",
        "不用处理：结果已保存，会自动重试。如果一直如此，查看 Label Studio 的日志。",
        "Nothing: the results are kept and tried again by themselves. If it lasts, read Label Studio's log.",
    ),
    Explained(
        "in_doubt",
        "结果已发给 Label Studio，但没有收到答复",
        "Label Studio was sent the results and did not answer",
        "不用处理：会先查看 Label Studio 里是否已有，再决定是否重发。如果一直如此，查看 Label Studio 的日志。",
        "Nothing: whether they are there is looked up before they are sent again. If it lasts, read Label Studio's "
        "log.",
    ),
    Explained(
        "unauthorized",
        "Label Studio 拒绝了 API 密钥",
        "Label Studio refuses the API key",
        "在 Label Studio 的 Account & Settings 里新建一个访问令牌，写入 LABEL_STUDIO_API_KEY 并重启 prelabel；"
        "该用户要能访问这个项目。结果已保存。",
        "Create a token under Account & Settings in Label Studio, give it as LABEL_STUDIO_API_KEY and restart "
        "prelabel; its user must have the project. The results are kept.",
        ("LABEL_STUDIO_API_KEY",),
    ),
    Explained(
        "not_found",
        "Label Studio 没有该项目或页面",
        "Label Studio has no such project or page",
        "检查 LABEL_STUDIO_URL：它是在浏览器里打开 Label Studio 的地址，子路径也要写上。",
        "Check LABEL_STUDIO_URL: it is the address of Label Studio in the browser, a sub-path included.",
        ("LABEL_STUDIO_URL",),
    ),
    Explained(
        "interrupted",
        "prelabel 停止时还没有发出",
        "prelabel was stopped before it was sent",
        "不用处理：下次启动后会继续。",
        "Nothing: it goes on at the next start.",
    ),
)

SOURCES = (
    Explained(
        "folder_unreadable",
        "有文件夹无法读取，其中的图片没有标注",
        "A folder cannot be read; the pictures in it are not annotated",
        "允许运行 prelabel 的用户读取该文件夹，再用同样的命令运行一次；已完成的不会重复。",
        "Let the user who runs prelabel read it, and run the same command again; what is done is not done twice.",
    ),
    Explained(
        "file_unreadable",
        "文件无法读取，不知道是不是图片",
        "A file cannot be read, so whether it is a picture is not known",
        "允许运行 prelabel 的用户读取该文件，再用同样的命令运行一次。",
        "Let the user who runs prelabel read it, and run the same command again.",
    ),
    Explained(
        "broken_link",
        "链接指向的文件不存在",
        "A link leads nowhere",
        "恢复链接指向的文件，或删除该链接，再用同样的命令运行一次。",
        "Bring back what it leads to, or remove the link, and run the same command again.",
    ),
    Explained(
        "unread_format",
        "图片的格式不支持",
        "A picture of a format that is not read",
        "另存为 JPEG 或 PNG，再用同样的命令运行一次。",
        "Save it as JPEG or PNG, and run the same command again.",
    ),
    Explained(
        "row_without_picture",
        "表格中该行的图片一栏为空",
        "A row of a list has nothing where its picture should be",
        "在该行填上图片的路径或网址，再用同样的命令运行一次；如果图片在另一列，用 --column 指定；"
        "直接插在单元格里的图片读不到，请另存为文件。",
        "Fill in the picture's path or address, and run the same command again; if another column has it, name that "
        "with --column. A picture that was placed in the cell itself is not read: save it as a file.",
    ),
    Explained(
        "row_unusable",
        "列表中该行无法使用",
        "A row of a list cannot be used",
        "按说明改正该行，再用同样的命令运行一次；已完成的不会重复。",
        "Correct it, and run the same command again; what is done is not done twice.",
    ),
    Explained(
        "not_a_picture",
        "文件不是图片",
        "The file is no picture",
        "不用处理。",
        "Nothing is to be done.",
    ),
    Explained(
        "empty_file",
        "文件是空的",
        "The file is empty",
        "如果它本应是图片，重新复制或下载。",
        "If it should be a picture, copy or download it again.",
    ),
    Explained(
        "hidden_file",
        "隐藏的文件或文件夹（名称以点开头）",
        "Hidden: the name of the file or the folder begins with a dot",
        "如果需要标注，改名，或把它单独作为 SOURCE。",
        "If it is to be annotated, rename it or name it as a SOURCE of its own.",
    ),
    Explained(
        "special_file",
        "既不是普通文件也不是文件夹",
        "Neither an ordinary file nor a folder",
        "不用处理。",
        "Nothing is to be done.",
    ),
    Explained(
        "folder_twice",
        "文件夹已从另一个名称读取",
        "The folder was read under another name already",
        "不用处理：其中的图片已计入。",
        "Nothing is to be done: its pictures are counted there.",
    ),
    Explained(
        "named_twice",
        "图片被重复列出",
        "The picture was named before",
        "不用处理：只标注一次。",
        "Nothing is to be done: it is annotated once.",
    ),
    Explained(
        "other_sheet",
        "只读取第一个可见的工作表，其余未读",
        "Only the first sheet of a workbook is read, not this one",
        "如果其中有图片，把它另存为单独的 .xlsx 或 .csv，作为另一个 SOURCE。",
        "If it names pictures, save it as an .xlsx or .csv of its own, and give that as one more SOURCE.",
    ),
)

SECTIONS: tuple[tuple[str, str, tuple[Explained, ...]], ...] = (
    ("图片", "Pictures", PICTURES),
    ("模型", "The model", MODEL),
    ("任务", "Tasks", TASKS),
    ("单个结果的回传", "Results that cannot be delivered", RESULTS),
    ("与 Label Studio 的连接", "The way to Label Studio", DELIVERY),
    ("批量标注的来源", "Sources of a bulk run", SOURCES),
)
"""With their headings, in the order of docs/troubleshooting.md."""

_BY_REASON: dict[str, Explained] = {row.reason: row for _, _, rows in SECTIONS for row in rows}


def explained(reason: Reason) -> Explained:
    return _BY_REASON[reason]


def known(reason: str) -> Explained | None:
    """None: a reason of another version, read from a file."""
    return _BY_REASON.get(reason)


def sentence(reason: str) -> str:
    """What it means and what to do, in English; the reason itself where nothing is known of it."""
    row = known(reason)
    return row.sentence if row else reason
