//! Faults of the configuration that an operator can cause: cameras, views, zones, rules, schedules, thresholds, calibration, permits, signs, and
//! values of a wrong form anywhere.

pub(super) const CHINESE: &[(&str, &str)] = &[
    (
        "too many zones: {count}, at most {limit}",
        "区域过多：有 {count} 个，最多 {limit} 个",
    ),
    ("join zones, or remove some", "请合并区域，或删除一些"),
    // The form of values.
    ("internal error: invalid schema: {e}", "内部错误：模式无效：{e}"),
    ("report this as a bug", "请反馈此缺陷"),
    ("unknown field", "没有这个字段"),
    ("missing", "缺少此项"),
    ("add it: {description}", "请补上：{description}"),
    ("did you mean `{near}`?", "是否应为 `{near}`？"),
    ("remove it; valid fields: {known}", "请删除；可用的字段：{known}"),
    ("unknown value", "没有这个取值"),
    (
        "{instance} is below the minimum of {limit}",
        "{instance} 小于最小值 {limit}",
    ),
    (
        "{instance} is above the maximum of {limit}",
        "{instance} 大于最大值 {limit}",
    ),
    (
        "{got} entries, at least {limit} required",
        "只有 {got} 项，至少需要 {limit} 项",
    ),
    ("add the missing entries", "请补足"),
    (
        "{length} entries, at most {limit} allowed",
        "有 {length} 项，最多 {limit} 项",
    ),
    ("must not be empty", "不能为空"),
    ("enter a value", "请填写"),
    ("does not match the pattern {pattern}", "不符合格式 {pattern}"),
    ("a different type", "其他类型"),
    ("a string", "文本"),
    ("a boolean", "布尔值"),
    ("a float", "小数"),
    ("an integer", "整数"),
    ("an array", "列表"),
    ("a table", "表"),
    ("null", "空值"),
    ("a number", "数字"),
    ("a boolean (true or false)", "布尔值（true 或 false）"),
    ("another type", "其他类型"),
    ("expected {expected}, found {found}", "应为{expected}，实为{found}"),
    ("use a number from {min} to {max}", "请填 {min} 至 {max} 的数字"),
    (
        "did you mean \"{near}\"? Valid values: {options}",
        "是否应为“{near}”？可用的取值：{options}",
    ),
    ("use one of: {options}", "可用的取值：{options}"),
    ("invalid id", "编号无效"),
    (
        "use 1 to 64 ASCII letters, digits, `-` or `_`; ids become part of MQTT topics and file names",
        "请用 1 至 64 个英文字母、数字、`-` 或 `_`；编号用于 MQTT 主题和文件名",
    ),
    ("invalid view name", "点位名称无效"),
    (
        "use the camera's id, or CAMERA.PRESET for a preset of a PTZ camera",
        "请用摄像机编号；云台预置位写作 摄像机.预置位",
    ),
    ("invalid duration", "时长无效"),
    (
        "use numbers with units, largest unit first, such as 500ms, 10s, 5m or 1h 30m",
        "请写数字加单位，大单位在前，如 500ms、10s、5m、1h 30m",
    ),
    ("invalid environment variable name", "环境变量名无效"),
    (
        "name the variable that holds user:password, such as GRIDWATCH_CAMERA_GATE; do not put the password itself here",
        "请写存放“用户名:密码”的变量名，如 GRIDWATCH_CAMERA_GATE；不要在此写密码本身",
    ),
    ("invalid credential name", "凭据名无效"),
    (
        "use the name that LoadCredential= gives it, without a path: letters, digits, `_`, `-`, `.` or `@`; do not put the password itself here",
        "请用 LoadCredential= 给出的名称，不带路径：字母、数字、`_`、`-`、`.` 或 `@`；不要在此写密码本身",
    ),
    ("not a SHA-256", "不是 SHA-256"),
    (
        "use the 64 hex digits that `openssl x509 -in FILE -noout -fingerprint -sha256` prints",
        "请用 `openssl x509 -in FILE -noout -fingerprint -sha256` 输出的 64 位十六进制数",
    ),
    ("invalid time of day", "时刻无效"),
    (
        "use HH:MM, such as 06:00, 18:30 or 24:00",
        "请写 HH:MM，如 06:00、18:30、24:00",
    ),
    ("unknown day name", "没有这个日期类别"),
    (
        "use mon to sun, a range such as mon-fri, or one of: daily, workday, restday, holiday",
        "请用 mon 至 sun、范围如 mon-fri，或 daily、workday、restday、holiday 之一",
    ),
    ("invalid season", "季节无效"),
    (
        "use MM-DD..MM-DD, both days included, such as 04-01..10-31",
        "请写 MM-DD..MM-DD，首尾两天都算，如 04-01..10-31",
    ),
    ("invalid date", "日期无效"),
    (
        "use YYYY-MM-DD, or a range such as 2026-10-01..2026-10-07",
        "请写 YYYY-MM-DD，或范围如 2026-10-01..2026-10-07",
    ),
    ("must be 20 digits", "应为 20 位数字"),
    (
        "use the camera's GB/T 28181 id, as a string of 20 digits",
        "请填摄像机的 GB/T 28181 编码，20 位数字",
    ),
    (
        "{got} points, a polygon needs {limit} or more",
        "只有 {got} 个顶点，多边形至少需要 {limit} 个",
    ),
    (
        "list the corners in order, as fractions of the image size: [[0.1, 0.9], [0.5, 0.4], [0.9, 0.9]]",
        "请按顺序列出顶点，以画面宽高的比例表示：[[0.1, 0.9], [0.5, 0.4], [0.9, 0.9]]",
    ),
    (
        "{got} point pairs, a calibration needs {limit} or more",
        "只有 {got} 对标定点，至少需要 {limit} 对",
    ),
    (
        "add pairs spread over the visible ground",
        "请在可见地面上分散地补充点对",
    ),
    // Cameras, views and zones.
    ("same stream as {before}", "与 {before} 是同一码流"),
    (
        "two cameras on one stream cost twice and interfere with each other's cases; draw the zones on one camera instead",
        "两台摄像机用同一码流，开销加倍，案卷也会相互干扰；请把区域画在一台摄像机上",
    ),
    (
        "list its views as [[cameras.presets]], or remove the line",
        "请用 [[cameras.presets]] 列出预置位，或删除此行",
    ),
    (
        "not allowed on a camera without presets",
        "没有预置位的摄像机不能有此项",
    ),
    (
        "move it into the [[cameras.presets]], as it differs from preset to preset",
        "各预置位不同，请移到 [[cameras.presets]] 中",
    ),
    ("not allowed on a camera with presets", "有预置位的摄像机不能有此项"),
    (
        "{tour} is less than look_every ({look_every})",
        "{tour} 小于 look_every（{look_every}）",
    ),
    (
        "use the longest time until the camera returns to a preset, as set in its patrol programme",
        "请填摄像机回到同一预置位的最长时间，与巡航计划一致",
    ),
    ("required on a camera with presets", "有预置位的摄像机必须有此项"),
    (
        "set the longest time until the camera returns to a preset, such as \"10m\"",
        "请填摄像机回到同一预置位的最长时间，如 \"10m\"",
    ),
    (
        "set the position of its view: place = { lon = …, lat = … }; for a PTZ camera, define [[cameras.presets]]",
        "请填点位坐标：place = { lon = …, lat = … }；云台摄像机请定义 [[cameras.presets]]",
    ),
    ("did you mean {near}://?", "是否应为 {near}://？"),
    ("use one of: {schemes}", "可用：{schemes}"),
    ("unsupported scheme {scheme}", "不支持的地址类型 {scheme}"),
    (
        "{path} does not exist or is not a regular file",
        "{path} 不存在或不是普通文件",
    ),
    (
        "name an existing clip by its absolute path: file:///clips/a.mp4",
        "请用绝对路径指定已有的视频文件：file:///clips/a.mp4",
    ),
    ("not a local path", "不是本机路径"),
    (
        "use file:// with an absolute path: file:///clips/a.mp4",
        "请用 file:// 加绝对路径：file:///clips/a.mp4",
    ),
    ("missing host", "缺少主机"),
    (
        "use a URL like rtsp://192.0.2.10:554/stream1",
        "请用如 rtsp://192.0.2.10:554/stream1 的地址",
    ),
    (
        "the PEM file of the camera's certificate or of its CA",
        "摄像机证书或其 CA 的 PEM 文件",
    ),
    (
        "only applies to rtsps://, but the URL is {scheme}://",
        "只用于 rtsps://，但地址是 {scheme}://",
    ),
    ("use rtsps://, or remove ca_file", "请改用 rtsps://，或删除 ca_file"),
    (
        "keep pin_sha256 to trust that one certificate, or ca_file to trust what the CA signs",
        "只信任这一张证书请保留 pin_sha256，信任该 CA 签发的请保留 ca_file",
    ),
    ("not allowed together with ca_file", "不能与 ca_file 同时使用"),
    (
        "use rtsps://, or remove pin_sha256",
        "请改用 rtsps://，或删除 pin_sha256",
    ),
    (
        "use ca_file with the camera's certificate, or remove source",
        "请用 ca_file 指定摄像机证书，或删除 source",
    ),
    (
        "not supported with source = \"gstreamer\"",
        "source = \"gstreamer\" 时不支持",
    ),
    (
        "has no effect: GStreamer receives this camera",
        "不起作用：该摄像机由 GStreamer 接收",
    ),
    ("remove the line", "删除此行"),
    (
        "not allowed with source = \"gstreamer\": over RTSP, GStreamer sends the login to any host that a redirect names",
        "source = \"gstreamer\" 时不允许：GStreamer 会把登录信息发给 RTSP 重定向指定的任何主机",
    ),
    (
        "remove source, so that the built-in client receives the camera",
        "请删除 source，由内置客户端接收该摄像机",
    ),
    ("needs the [reading] section", "需要 [reading] 部分"),
    (
        "add [reading] with `finder` and `speller`, or remove the line",
        "请添加含 `finder` 和 `speller` 的 [reading]，或删除此行",
    ),
    ("did you mean {near}?", "是否应为 {near}？"),
    (
        "use the id from a model's model.toml: {known}",
        "请用模型 model.toml 中的编号：{known}",
    ),
    ("unknown model {id}", "没有模型 {id}"),
    (
        "list the corners in order around the area, each as [x, y] from 0 to 1, without repeating the first at the end",
        "请沿区域边界依次列出顶点，每个为 0 至 1 的 [x, y]，末尾不要重复第一个",
    ),
    ("use the id of one of the [[rules]]", "请用 [[rules]] 中某条规则的编号"),
    ("unknown rule {id}", "没有规则 {id}"),
    ("only allowed on a permitted zone", "只能用于限时允许区域"),
    (
        "set kind = \"permitted\", or remove the line",
        "请设 kind = \"permitted\"，或删除此行",
    ),
    (
        "has no effect: a privacy zone applies to every rule",
        "不起作用：隐私区域对所有规则有效",
    ),
    (
        "exempts the objects of every rule: not only vendors, but also their garbage",
        "对所有规则的目标都豁免：不仅是摊贩，还包括他们的垃圾",
    ),
    (
        "list the rules it is meant for: rules = [\"…\"]",
        "请列出适用的规则：rules = [\"…\"]",
    ),
    ("required on a permitted zone", "限时允许区域必须有此项"),
    (
        "name one of the [[schedules]]; for ground that is always permitted, use an exclude zone",
        "请写 [[schedules]] 中某个时段的编号；始终允许的地面请用排除区域",
    ),
    // Rules.
    (
        "the file of the city's categories, such as categories/default.toml",
        "城市事部件分类文件，如 categories/default.toml",
    ),
    (
        "rules {one} and {other} share a label but use different models for the second look",
        "规则 {one} 与 {other} 有相同的标签，但复核模型不同",
    ),
    (
        "set the same second_look.model in both",
        "请在两条规则中设相同的 second_look.model",
    ),
    (
        "{id} has adapter {adapter}, but {needed} is required",
        "{id} 的适配器是 {adapter}，需要 {needed}",
    ),
    (
        "use a text detection model (adapter db) as `finder`, and a text recognition model (adapter ctc) as `speller`",
        "`finder` 请用文字检测模型（适配器 db），`speller` 请用文字识别模型（适配器 ctc）",
    ),
    (
        "no camera has a shop zone for this rule, so it never files anything",
        "没有摄像机为此规则画出店铺区域，规则永远不会立案",
    ),
    (
        "draw the shop's own ground as a zone with kind = \"shop\", or remove the line",
        "请把店铺自有地面画成 kind = \"shop\" 的区域，或删除此行",
    ),
    (
        "{keep} is above start_score ({start})",
        "{keep} 高于 start_score（{start}）",
    ),
    (
        "use a lower value, so that a flickering detection continues its candidate",
        "请用更低的值，使时有时无的检测能延续候选",
    ),
    (
        "{seen_n} is more than seen_m ({seen_m})",
        "{seen_n} 大于 seen_m（{seen_m}）",
    ),
    ("set seen_m to at least seen_n", "seen_m 至少应等于 seen_n"),
    ("needs the change map, which is disabled", "需要变化检测，但它已关闭"),
    (
        "set change.enabled = true, or remove the line",
        "请设 change.enabled = true，或删除此行",
    ),
    ("has no effect without appeared", "没有 appeared 时不起作用"),
    (
        "set appeared = \"preferred\" or \"required\", or remove the line",
        "请设 appeared = \"preferred\" 或 \"required\"，或删除此行",
    ),
    (
        "{new} is above start_score ({start})",
        "{new} 高于 start_score（{start}）",
    ),
    (
        "use a lower value: what is new needs less evidence",
        "请用更低的值：新出现的目标需要的证据较少",
    ),
    (
        "{keep} is above new_start_score ({new_start})",
        "{keep} 高于 new_start_score（{new_start}）",
    ),
    (
        "use a lower value: what continues a candidate needs less than what starts one",
        "请用更低的值：延续候选的要求应低于开始候选",
    ),
    (
        "{keep} is above keep_score ({keep_score})",
        "{keep} 高于 keep_score（{keep_score}）",
    ),
    (
        "has no effect without appeared = \"preferred\"",
        "没有 appeared = \"preferred\" 时不起作用",
    ),
    ("set it, or remove the line", "请设置它，或删除此行"),
    (
        "{old} is below start_score ({start})",
        "{old} 低于 start_score（{start}）",
    ),
    (
        "use a higher value: what has always been there needs more evidence",
        "请用更高的值：一直在那里的目标需要更多证据",
    ),
    ("the rule has no label `object`", "此规则没有标签 `object`"),
    (
        "add the label, or remove the field: everything else is identified",
        "请添加该标签，或删除此字段：其他目标都已识别",
    ),
    (
        "{longer} is less than dwell ({dwell})",
        "{longer} 小于 dwell（{dwell}）",
    ),
    (
        "use a longer one: what no model recognises needs more evidence",
        "请用更长的时间：模型认不出的目标需要更多证据",
    ),
    (
        "{dwell} is less than evidence.min_interval ({interval})",
        "{dwell} 小于 evidence.min_interval（{interval}）",
    ),
    (
        "use a longer dwell: the first and the confirming look of a case would be too close together",
        "请用更长的停留时间：否则案卷的首次画面与确认画面相隔太近",
    ),
    (
        "{max_gap} is less than {what} ({every}): every gap would count as an outage, and no dwell would complete",
        "{max_gap} 小于 {what}（{every}）：每次间隔都会算作中断，停留时间永远达不到",
    ),
    ("use {looks_per_gap} or more", "请用 {looks_per_gap} 或更长"),
    (
        "{max_gap} is less than three times {what} ({every}): one or two late looks count as an outage",
        "{max_gap} 小于 {what}（{every}）的三倍：晚一两次查看就会算作中断",
    ),
    (
        "{forget_after} is less than {what} ({look_every}): a single missed detection would end the candidate",
        "{forget_after} 小于 {what}（{look_every}）：漏检一次就会结束候选",
    ),
    ("{label} is a label of the rule itself", "{label} 是此规则自己的标签"),
    ("remove it here or from `labels`", "请在此处或 `labels` 中删除它"),
    (
        "set change.enabled = true: new objects are found by the change map",
        "请设 change.enabled = true：新出现的目标由变化检测发现",
    ),
    (
        "use a label from a model's model.toml, or add a model that detects this one",
        "请用模型 model.toml 中的标签，或添加能检测它的模型",
    ),
    ("no model detects {label}", "没有模型能检测 {label}"),
    (
        "no model detects this rule's labels, so no second look is possible",
        "没有模型能检测此规则的标签，无法复核",
    ),
    (
        "remove the line; text that is read has its own scores",
        "请删除此行；识别出的文字有自己的置信度",
    ),
    (
        "use the id of one of the [[models]], or add its folder there",
        "请用 [[models]] 中某个模型的编号，或在其中添加模型目录",
    ),
    ("unknown model {named}", "没有模型 {named}"),
    (
        "model {named} detects none of this rule's labels",
        "模型 {named} 不检测此规则的任何标签",
    ),
    (
        "name a model that detects one of them, or remove the line",
        "请指定能检测其中之一的模型，或删除此行",
    ),
    (
        "use a code from grid.categories, or add this one there; known codes: {codes}",
        "请用 grid.categories 中的代码，或在其中添加；已有代码：{codes}",
    ),
    ("unknown category code {category}", "没有分类代码 {category}"),
    // Schedules and permits.
    (
        "use YYYY-MM-DD, or a range that includes both days, such as 2026-10-01..2026-10-07",
        "请写 YYYY-MM-DD，或首尾两天都算的范围，如 2026-10-01..2026-10-07",
    ),
    ("overlaps windows[{before}]", "与 windows[{before}] 重叠"),
    (
        "a schedule is open while any of its windows is; check that both are intended",
        "任一时间窗开放时时段即开放；请确认两者都需要",
    ),
    (
        "depends on public holidays, but there is no [calendar]",
        "取决于法定节假日，但没有 [calendar]",
    ),
    (
        "add the year's file to calendar.files; see configs/calendar/ for examples",
        "请把当年的文件加入 calendar.files；示例见 configs/calendar/",
    ),
    (
        "no holidays listed for {year}: every Monday to Friday counts as a workday",
        "没有 {year} 年的节假日：周一至周五都按工作日计",
    ),
    (
        "add the year's file, from the State Council's notice; see configs/calendar/ for examples",
        "请按国务院办公厅通知添加当年的文件；示例见 configs/calendar/",
    ),
    ("this schedule is not used", "此时段没有被引用"),
    (
        "use it in a permitted zone (schedule) or in a rule (active, pause), or remove it",
        "请在限时允许区域（schedule）或规则（active、pause）中引用，或删除它",
    ),
    (
        "a calendar file, such as calendar/cn-2026.toml",
        "日历文件，如 calendar/cn-2026.toml",
    ),
    ("contains a day that does not exist", "含有不存在的日期"),
    ("a window cannot start at 24:00", "时间窗不能从 24:00 开始"),
    (
        "use 00:00, and the following day in days",
        "请用 00:00，并在 days 中写次日",
    ),
    (
        "from and to are both {from}, which is ambiguous",
        "from 与 to 都是 {from}，含义不明",
    ),
    (
        "for whole days, use from = \"00:00\", to = \"24:00\"",
        "全天请写 from = \"00:00\"，to = \"24:00\"",
    ),
    (
        "define it: [[schedules]] with an id and windows",
        "请定义：[[schedules]]，写明 id 和 windows",
    ),
    (
        "use the id of one of the [[schedules]]",
        "请用 [[schedules]] 中某个时段的编号",
    ),
    ("unknown schedule {name}", "没有时段 {name}"),
    ("has no effect without pause", "没有 pause 时不起作用"),
    (
        "name the schedule during which the rule pauses: pause = \"…\"",
        "请写规则暂停的时段：pause = \"…\"",
    ),
    (
        "same schedule as active: the rule would never be active",
        "与 active 是同一时段：规则永远不会生效",
    ),
    ("remove one of the two", "请删除其中之一"),
    ("{text} is not a valid date", "{text} 不是有效日期"),
    ("{text} ends before it starts", "{text} 的结束早于开始"),
    (
        "{text} is longer than {longest_holiday_days} days",
        "{text} 超过 {longest_holiday_days} 天",
    ),
    ("check the years and months", "请核对年份和月份"),
    (
        "{day} is listed both as a holiday and as a working day",
        "{day} 同时列为节假日和工作日",
    ),
    ("remove it from one of the lists", "请从其中一处删除"),
    (
        "{day} is not a Saturday or Sunday, so it is a working day anyway",
        "{day} 不是周末，本来就是工作日",
    ),
    ("check the date", "请核对日期"),
    ("use YYYY-MM-DD, such as 2026-10-31", "请写 YYYY-MM-DD，如 2026-10-31"),
    (
        "{until} is before valid_from ({from})",
        "{until} 早于 valid_from（{from}）",
    ),
    ("give the last day on which it is permitted", "请填允许的最后一天"),
    (
        "expired on {until}: what stands here is not permitted any more",
        "已于 {until} 到期：此处的摆放不再允许",
    ),
    (
        "set a later day if it was renewed, or remove the zone",
        "如已续期请改日期，否则请删除该区域",
    ),
    // Approved signs.
    (
        "{expired} of {total} approved signs have expired and count as new ones",
        "{total} 块已批准招牌中有 {expired} 块已过期，按新招牌处理",
    ),
    (
        "set a later valid_until for those that were renewed, and delete the others",
        "已续期的请改 valid_until，其余请删除",
    ),
    ("{recorded} is not a timestamp", "{recorded} 不是时间戳"),
    (
        "use RFC 3339 with an offset, such as 2026-11-22T10:00:00+08:00",
        "请用带时区的 RFC 3339 格式，如 2026-11-22T10:00:00+08:00",
    ),
    ("{day} is not a date", "{day} 不是日期"),
    ("use YYYY-MM-DD, such as 2026-11-22", "请写 YYYY-MM-DD，如 2026-11-22"),
    ("{corners} is not a box within the image", "{corners} 不是画面内的矩形"),
    (
        "use [left, top, right, bottom] as fractions of the image size, with left < right and top < bottom",
        "请写 [左, 上, 右, 下]，以画面宽高的比例表示，左小于右，上小于下",
    ),
    (
        "the file that `gridwatch signs record` writes for this camera",
        "`gridwatch signs record` 为该摄像机写出的文件",
    ),
    (
        "is {camera}, but the file is used for {view}",
        "是 {camera}，但文件用于 {view}",
    ),
    (
        "give each view its own file; boxes recorded in another view would approve the wrong signs",
        "请让每个点位用自己的文件；在别的点位记录的位置会批准错误的招牌",
    ),
    (
        "missing: nothing is filed for this view under {here}",
        "缺少此项：该点位在 {here} 下不会立案",
    ),
    (
        "record the approved signs: gridwatch signs record {view} --config FILE",
        "请记录已批准的招牌：gridwatch signs record {view} --config FILE",
    ),
    (
        "approves {label}, but no rule with except_approved covers that label",
        "批准了 {label}，但没有 except_approved 的规则包含该标签",
    ),
    (
        "set except_approved = true in the rule it is meant for, or remove the sign",
        "请在对应规则中设 except_approved = true，或删除该招牌",
    ),
    // Faults with their places, and differences.
    ("{what} ({place})", "{what}（{place}）"),
    ("{path}: {what} ({place})", "{path}：{what}（{place}）"),
    ("{fault}: {remedy}", "{fault}；{remedy}"),
    ("{place}: {what}", "{place}：{what}"),
    ("{place}: {what}; {remedy}", "{place}：{what}；{remedy}"),
    ("{place}: {path}: {what}", "{place}：{path}：{what}"),
    ("{place}: {path}: {what}; {remedy}", "{place}：{path}：{what}；{remedy}"),
    ("{path}: {what} (live)", "{path}：{what}（立即生效）"),
    ("{path}: {what} (restart)", "{path}：{what}（重启后生效）"),
    ("{old} → {new}", "{old} → {new}"),
    ("{cut} ({n} entries)", "{cut}（共 {n} 项）"),
    ("the daemon did not accept it", "程序没有采用该配置"),
    ("unset", "未设置"),
    ("changed", "已修改"),
    ("added", "新增"),
    ("removed", "已删除"),
    ("order changed to {ids}", "顺序改为 {ids}"),
    ("contents changed", "文件内容有变化"),
    // Names that are given twice, and durations.
    ("already used by {place}", "已被 {place} 使用"),
    ("choose a unique {field}", "请用不重复的 {field}"),
    ("{span} is {side} of {limit}", "{span} {side} {limit}"),
    ("below the minimum", "低于最小值"),
    ("above the maximum", "高于最大值"),
    ("use a duration from {least} to {most}", "请用 {least} 至 {most} 的时长"),
];
