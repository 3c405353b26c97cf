//! What stands against readiness.

pub(super) const CHINESE: &[(&str, &str)] = &[
    ("{name}: {reason}", "{name}：{reason}"),
    ("broker", "平台连接"),
    ("cameras", "摄像机"),
    ("clock", "时钟"),
    ("database", "数据库"),
    ("storage", "存储"),
    ("signing", "签名"),
    (
        "the core has not responded for {seconds} s",
        "核心线程已 {seconds} 秒没有响应",
    ),
    ("the daemon is still starting", "程序正在启动"),
    ("no clear look since {at}", "自 {at} 起没有清晰画面"),
    ("no clear look yet", "还没有清晰画面"),
    ("{error}, since {since}", "{error}（自 {since}）"),
    (
        "{error}, since {since}; next try at {until}",
        "{error}（自 {since}），{until} 再试",
    ),
    (
        "{address}: the broker takes the cases, but the platform has given no receipt since {since}; {count} without one; check that the platform runs and may read and write its topics",
        "{address}：消息服务器收下了案卷，但平台自 {since} 起没有回执；{count}没有回执；请检查平台是否在运行，能否读写其主题",
    ),
    ("set aside until {until}: {reason}", "暂停接收至 {until}：{reason}"),
    ("its view is {view}", "画面{view}"),
    ("its view is {view}; {reason}", "画面{view}；{reason}"),
    ("clear", "清晰"),
    ("dark", "过暗"),
    ("blurred", "模糊"),
    ("blocked", "被遮挡"),
    ("frozen", "冻结"),
    ("damaged", "花屏"),
    ("moved", "偏移"),
    ("camera {id}: {since}", "摄像机 {id}：{since}"),
    ("camera {id}: {since}: {cause}", "摄像机 {id}：{since}，{cause}"),
    (
        "no cameras are configured: nothing is watched",
        "没有配置摄像机：目前什么也不监控",
    ),
    ("and {more} more", "另有 {more} 路"),
    (
        "no camera has a clear view: {named}",
        "所有摄像机都没有清晰画面：{named}",
    ),
    (
        "{n} of {total} cameras have no clear view: {named}",
        "{total} 路摄像机中有 {n} 路没有清晰画面：{named}",
    ),
    ("not connected yet", "尚未连接"),
    ("{address}: {error}, since {since}", "{address}：{error}（自 {since}）"),
    ("{address}: {error}", "{address}：{error}"),
    (
        "{address}: cases are rejected: {why}; {count} quarantined; fix the cause, then run `gridwatch outbox retry`",
        "{address}：案卷被拒收：{why}；已隔离 {count}；排除原因后执行 `gridwatch outbox retry`",
    ),
    (
        "{address}: the broker accepts the connection but has acknowledged no message since {since}; {count} waiting",
        "{address}：消息服务器已连接，但自 {since} 起没有确认任何消息；待发 {count}",
    ),
    (
        "{address}: the subscription to replies is denied ({reason}), so cases get none; allow the topic in the broker's ACL",
        "{address}：订阅平台回复被拒绝（{reason}），案卷收不到回复；请在消息服务器的 ACL 中放行该主题",
    ),
    ("1 message", "1 条消息"),
    ("{count} messages", "{count} 条消息"),
    ("resolving its host name", "正在解析主机名"),
    ("connecting", "正在连接"),
    ("live", "在线"),
    ("its file has ended", "文件已播放完"),
    (
        "plays without usable keyframes (none for {seconds} s); set the camera's keyframe interval (GOP) to 2 s",
        "码流中没有可用的关键帧（已 {seconds} 秒）；请把摄像机的关键帧间隔（GOP）设为 2 秒",
    ),
    (
        "{percent} % of its packets are lost, and with them keyframes; check the network to the camera",
        "丢包 {percent}%，关键帧因此丢失；请检查到摄像机的网络",
    ),
    ("its keyframes cannot be decoded: {error}", "关键帧无法解码：{error}"),
    ("{doubt}; cases are held until then", "{doubt}；在此之前暂不立案"),
    (
        "the clock shows a time before {earliest}; synchronise it with chrony or systemd-timesyncd",
        "时钟显示的时间早于 {earliest}；请用 chrony 或 systemd-timesyncd 校时",
    ),
    (
        "the clock showed {wall}, earlier than the newest known time {known}; synchronise it with chrony or systemd-timesyncd, or wait until it has run for an hour without a step",
        "时钟显示 {wall}，早于已知的最新时间 {known}；请用 chrony 或 systemd-timesyncd 校时，或等它连续运行一小时不跳变",
    ),
    (
        "the clock showed {wall}, more than a day after the newest known time {known}; synchronise it with chrony or systemd-timesyncd, or wait until it has run for an hour without a step",
        "时钟显示 {wall}，比已知的最新时间 {known} 晚一天以上；请用 chrony 或 systemd-timesyncd 校时，或等它连续运行一小时不跳变",
    ),
    (
        "the clock was set by {seconds} s; it is believed again once it has run for an hour without another step",
        "时钟被调整了 {seconds} 秒；连续运行一小时不再跳变后恢复采信",
    ),
    (
        "the clock is not synchronised; synchronise it with chrony or systemd-timesyncd",
        "时钟没有同步；请用 chrony 或 systemd-timesyncd 校时",
    ),
    (
        "{path} is not a directory, so no picture can be stored; move it away",
        "{path} 不是目录，无法保存图片；请移走",
    ),
    ("{path} is not writable: {e}", "{path} 不可写：{e}"),
    ("{path}: cannot read the free space: {e}", "{path}：读不到剩余空间：{e}"),
    (
        "disk full: {path} has {free} bytes free, but a case needs {needed}; free disk space",
        "磁盘已满：{path} 剩余 {free} 字节，一件案卷需要 {needed} 字节；请清理磁盘",
    ),
    ("{what} is waiting to be committed: {error}", "{what} 等待入库：{error}"),
];
