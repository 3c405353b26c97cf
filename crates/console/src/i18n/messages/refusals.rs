//! Why the console did not do what was asked: what the input lacks, and what stands against it on this box.

pub(super) const CHINESE: &[(&str, &str)] = &[
    // Saving the configuration.
    (
        "the configuration was changed in the meantime: it has revision {found}, not {expected}; read it again and repeat the edit",
        "配置在此期间已被修改（当前版本 {found}，不是 {expected}）；请重新读取后再修改",
    ),
    (
        "not a path to a field; write it like cameras[gate].zones[pavement].polygon",
        "不是字段路径；写法如 cameras[gate].zones[pavement].polygon",
    ),
    (
        "{path} does not exist; the configuration may have been changed in the meantime",
        "{path} 不存在；配置可能在此期间已被修改",
    ),
    (
        "{path} exists already; choose another id",
        "{path} 已存在；请换一个编号",
    ),
    ("{path}: {what}", "{path}：{what}"),
    ("invalid TOML; mend the file first", "不是有效的 TOML；请先修正该文件"),
    ("an element is a table", "列表中的每一项应为表"),
    (
        "TOML has no null; unset the field instead",
        "TOML 中没有 null；请改为删除该字段",
    ),
    ("there is another value in its place", "该位置已有其他值"),
    ("an element needs an id", "每一项都需要编号（id）"),
    ("is not a list of elements", "不是列表"),
    (
        "name the main file, or a file such as conf.d/gate.toml",
        "请写主文件名，或 conf.d/gate.toml 这样的文件名",
    ),
    (
        "lies in several files; set its fields or elements",
        "分布在多个文件中；请修改其中的字段或各项",
    ),
    (
        "the text is too long for a configuration file; shorten it",
        "内容过长，超过配置文件的上限；请缩短",
    ),
    ("the main file cannot be removed", "主文件不能删除"),
    ("give a name of at most 200 bytes", "姓名最多 200 字节"),
    ("give a reason of at most 1000 bytes", "原因最多 1000 字节"),
    (
        "too many; at most 500 can be approved in a view",
        "过多；一个画面最多批准 500 块标牌",
    ),
    (
        "a new file needs the time and the models of a recording",
        "新文件需要写明记录的时间和模型",
    ),
    (
        "write each sign as a [[signs]] table; then it can be edited here",
        "请把每块标牌写成 [[signs]] 表，才能在这里编辑",
    ),
    ("a sign of the file is named twice", "文件中的同一块标牌被写了两次"),
    ("the file has fewer signs", "文件中的标牌没有这么多"),
    (
        "another process is saving the configuration; try again",
        "另一个程序正在保存配置；请再试一次",
    ),
    (
        "{path} belongs to user {uid} and group {gid}, which this user cannot give to its new version; save as that user, or as root",
        "{path} 属于用户 {uid}、组 {gid}，当前用户不能把新版本交给它们；请以该用户或 root 身份保存",
    ),
    (
        "there is no version {number}; `gridwatch config history` lists those that are kept",
        "没有版本 {number}；`gridwatch config history` 列出保留的版本",
    ),
    (
        "the configuration cannot be saved: this user may not make files in {dir} ({source}); give that folder and the files in it to the user of the service (chown), and under systemd name it in ReadWritePaths=",
        "配置无法保存：服务的用户不能在文件夹 {dir} 中新建文件（{source}）；请把该文件夹及其中的文件交给服务的用户（chown），并在 systemd 单元的 ReadWritePaths= 中写明",
    ),
    ("cannot {doing} {path}: {source}", "无法{doing} {path}：{source}"),
    ("find", "找到"),
    ("list", "列出"),
    ("lock", "锁定"),
    ("make", "创建"),
    ("open", "打开"),
    ("read", "读取"),
    ("remove", "删除"),
    ("replace", "替换"),
    ("use", "使用"),
    ("write beside", "写入其旁边的文件"),
    ("write", "写入"),
    ("the login cannot be written: {error}", "登录信息无法写入：{error}"),
    (
        "why: give a reason of at most 1000 characters",
        "why：原因最多 1000 个字符",
    ),
    (
        "action: use check, save or remove",
        "action：请用 check、save 或 remove",
    ),
    ("a version is a number, or current", "版本应为数字，或 current"),
    (
        "the configuration has faults in parts that you may not see",
        "配置中您无权查看的部分有错误",
    ),
    ("ask an administrator to mend them", "请管理员修正"),
    // Cameras, views and presets.
    (
        "interfaces: no interface of this box has the address",
        "interfaces：本机没有使用该地址的网络接口",
    ),
    ("interface: not an IPv4 address", "interface：不是 IPv4 地址"),
    (
        "the camera moves by itself (fixed = false), so it has no view to confirm",
        "该摄像机会自行转动（fixed = false），没有需要确认的画面",
    ),
    (
        "an earlier request waits for the next look at this view",
        "之前的请求还在等待该画面的下一次查看",
    ),
    (
        "the camera has no presets yet; name its present view first",
        "该摄像机还没有预置位；请先为当前画面命名",
    ),
    ("the camera has presets already", "该摄像机已有预置位"),
    (
        "the camera's last preset cannot be removed; remove the camera",
        "不能删除摄像机的最后一个预置位；请删除摄像机",
    ),
    ("signs: too many files of this name", "signs：同名文件过多"),
    (
        "id: 1 to 64 letters, digits, - or _",
        "编号：1 到 64 个字母、数字、- 或 _",
    ),
    (
        "an id has 1 to 64 letters, digits, - or _",
        "编号应为 1 到 64 个字母、数字、- 或 _",
    ),
    (
        "address: at most 200 characters on one line",
        "地址：一行，最多 200 个字符",
    ),
    (
        "place: longitude -180 to 180, latitude -90 to 90, radius 1 to 1000 m",
        "位置：经度 -180 到 180，纬度 -90 到 90，误差半径 1 到 1000 米",
    ),
    ("{name}: not a number", "{name}：不是数字"),
    // Permits and zones.
    ("a permit has 1 to {most} grounds", "一份许可应有 1 到 {most} 个地块"),
    (
        "polygon: not a list of 3 points or more",
        "polygon：应为 3 个以上的顶点",
    ),
    ("last: not a day such as 2026-10-31", "last：不是 2026-10-31 这样的日期"),
    // Cases, looks and thresholds.
    (
        "before: not a time such as 2026-06-01T08:00:00Z",
        "before：不是 2026-06-01T08:00:00Z 这样的时间",
    ),
    (
        "the ledger is being read, {percent} % done; ask again",
        "正在读取账本，已完成 {percent} %；请稍后再问",
    ),
    (
        "the rule has no threshold {threshold}; configure it first",
        "该规则没有阈值 {threshold}；请先在配置中设置",
    ),
    // Models.
    ("looks: use 1 to {most}", "looks：请用 1 到 {most}"),
    (
        "version: name the one to run, or set `stop`",
        "version：请写要试运行的版本，或设置 `stop`",
    ),
    ("another package is being installed", "正在安装另一个模型包"),
    ("the package is empty", "模型包为空"),
    ("the upload ended early: {error}", "上传中断：{error}"),
    ("the disk does not tell its free space", "无法得知磁盘的剩余空间"),
    (
        "there is not enough disk space for the package; free some first",
        "磁盘空间不足以存放模型包；请先清理",
    ),
    // Programs and old pages.
    ("not a form", "不是表单"),
    (
        "the body is not the JSON object that the description of the API asks for",
        "请求内容不是 API 说明要求的 JSON 对象",
    ),
    (
        "send JSON, with Content-Type: application/json",
        "请发送 JSON，并写明 Content-Type: application/json",
    ),
    ("send a JSON object", "请发送 JSON 对象"),
    (
        "send a Range header with one range of bytes",
        "请在 Range 头中写一个字节范围",
    ),
];
