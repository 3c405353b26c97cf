//! Why a camera cannot be reached, and what to do.

pub(super) const CHINESE: &[(&str, &str)] = &[
    // RTSP.
    ("connection to {host} failed: {what}", "无法连接 {host}：{what}"),
    (
        "connection to {host} failed: {what}; check the address and port in its url, and that the camera is on and serves RTSP there",
        "无法连接 {host}：{what}；请检查 url 中的地址和端口，以及摄像机是否开机并提供 RTSP",
    ),
    (
        "login rejected by the camera (status {status} on {step}): {login}",
        "摄像机拒绝登录（{step} 返回 {status}）：{login}",
    ),
    (
        "it requires a user and a password; set `credentials`",
        "需要用户名和密码；请设置 `credentials`",
    ),
    (
        "it redirected to another host or to an unencrypted connection, where credentials are not sent; set the camera's url to the redirect's target",
        "它转到了另一台主机或不加密的连接，登录信息不会发往那里；请把摄像机的 url 改为转向的地址",
    ),
    (
        "it offers only {offered}, which is not supported; enable Digest or Basic authentication in the camera",
        "它只提供 {offered}，不受支持；请在摄像机中启用 Digest 或 Basic 认证",
    ),
    (
        "it asks for the password in the clear (Basic), although it asked for Digest before: something else may answer in its place; if the camera was changed, set `auth = \"basic\"` or restart",
        "它以前要求 Digest，现在却要求明文密码（Basic）：可能是别的设备在冒充；如果更换过摄像机，请设置 `auth = \"basic\"` 或重新启动",
    ),
    (
        "it offers only {offered}, which its `auth` setting does not allow; enable the other scheme in the camera, or change `auth`",
        "它只提供 {offered}，而 `auth` 设置不允许；请在摄像机中启用另一种方式，或修改 `auth`",
    ),
    (
        "the user may not view this stream, or is locked after wrong passwords (tried no login); check the user in the camera",
        "该用户无权查看此码流，或因密码错误被锁定（没有尝试登录）；请检查摄像机中的用户",
    ),
    (
        "the user may not view this stream, or is locked after wrong passwords (tried {tried}); check the user in the camera",
        "该用户无权查看此码流，或因密码错误被锁定（尝试了 {tried}）；请检查摄像机中的用户",
    ),
    (
        "tried {tried}; correct the user or password that its `credentials` setting refers to",
        "尝试了 {tried}；请改正 `credentials` 所指的用户名或密码",
    ),
    (
        "the camera has no stream at this path (status {status} on {step}); correct the path in the camera's url",
        "摄像机在此路径没有码流（{step} 返回 {status}）；请改正 url 中的路径",
    ),
    (
        "the camera has no free stream or bandwidth (status {status} on {step}); close other players or recorders of this camera, or raise its limit of connections",
        "摄像机没有空闲的码流或带宽（{step} 返回 {status}）；请关闭此摄像机的其他播放器或录像机，或提高其连接数上限",
    ),
    (
        "the camera does not send over {asked}{detail}; set `transport` to {propose}",
        "摄像机不通过 {asked} 发送{detail}；请把 `transport` 设为 {propose}",
    ),
    (
        "the camera lost the session (status 454 on {step}); it is set up again at the next connection",
        "摄像机丢失了会话（{step} 返回 454）；下次连接时重新建立",
    ),
    ("status {status} on {step}; {advice}", "{step} 返回 {status}；{advice}"),
    (
        "the camera points elsewhere; correct the camera's url",
        "摄像机指向别处；请改正摄像机的 url",
    ),
    (
        "the camera does not understand the request; check the path in the camera's url and its firmware version",
        "摄像机不理解该请求；请检查 url 中的路径和固件版本",
    ),
    (
        "the camera cannot play live from here; check the path in the camera's url",
        "摄像机不能从这里直播；请检查 url 中的路径",
    ),
    (
        "the camera cannot play this stream by itself; choose another stream in the camera's url",
        "摄像机不能单独播放此码流；请在 url 中选择另一码流",
    ),
    (
        "the camera lacks an option of RTSP; check the path in the camera's url and its firmware version",
        "摄像机缺少某项 RTSP 功能；请检查 url 中的路径和固件版本",
    ),
    (
        "the camera has an internal error; restart it if this lasts",
        "摄像机内部出错；如果持续，请重启摄像机",
    ),
    ("check the path in the camera's url", "请检查 url 中的路径"),
    (
        "the camera offers no H.264, H.265 or Motion JPEG video, only {offers}; change its video encoding",
        "摄像机不提供 H.264、H.265 或 Motion JPEG 视频，只有 {offers}；请修改视频编码",
    ),
    (
        "no answer from {host} within {limit} (waiting for {step}); check that the camera is on and reachable",
        "{host} 在 {limit} 内没有应答（等待 {step}）；请检查摄像机是否开机并能连通",
    ),
    (
        "no video packet received for {limit}; if the network blocks UDP, set `transport` to tcp",
        "{limit} 没有收到视频包；如果网络不通 UDP，请把 `transport` 设为 tcp",
    ),
    ("no video packet received for {limit}", "{limit} 没有收到视频包"),
    (
        "the camera closed the connection (during {step})",
        "摄像机关闭了连接（{step} 阶段）",
    ),
    (
        "invalid answer from the camera (during {step}): {what}",
        "摄像机的应答无效（{step} 阶段）：{what}",
    ),
    (
        "the camera sent {what} above the limit of {limit}; the connection was cut to protect this box",
        "摄像机发送的 {what} 超过上限 {limit}；为保护本机已断开连接",
    ),
    (
        "the camera redirects, and the redirect is not followed: {problem}",
        "摄像机要求转向，未予跟随：{problem}",
    ),
    (
        "more than {limit} redirects in a row, the last to {to}; correct the camera's url",
        "连续转向超过 {limit} 次，最后一次指向 {to}；请改正摄像机的 url",
    ),
    (
        "it leads back to {to}; correct the camera's url",
        "它又转回 {to}；请改正摄像机的 url",
    ),
    ("status {status} names no target", "状态 {status} 没有写明目标"),
    (
        "its target \"{to}\" is not an rtsp:// or rtsps:// URL",
        "目标“{to}”不是 rtsp:// 或 rtsps:// 地址",
    ),
    ("invalid camera url: {what}", "摄像机的 url 无效：{what}"),
    ("closed on request", "已按要求关闭"),
    // Receiving.
    (
        "no frame received for {limit}, although packets arrive; restart the camera or update its firmware",
        "有数据包到达，但 {limit} 没有收到完整画面；请重启摄像机或升级固件",
    ),
    (
        "no picture could be decoded for {limit}, although pictures arrive; asking the camera anew for what it sends",
        "有画面到达，但 {limit} 无法解码；正在重新询问摄像机发送什么",
    ),
    (
        "the number of {what} the camera sends exceeds the limit of {limit} a second; the connection was cut to protect this box; lower the camera's bit rate",
        "摄像机每秒发送的 {what} 超过上限 {limit}；为保护本机已断开连接；请降低摄像机的码率",
    ),
    (
        "cannot log in: `credentials`: {error}",
        "无法登录：`credentials`：{error}",
    ),
    (
        "internal error in the receiver: {what}; please report it",
        "接收程序内部出错：{what}；请报告此问题",
    ),
    ("{error}; next try at {until}", "{error}；{until} 再试"),
    // ONVIF.
    (
        "not the address of a device: {what}; use a host name or IP address, or http://HOST:PORT/onvif/device_service",
        "不是设备地址：{what}；请用主机名或 IP 地址，或 http://HOST:PORT/onvif/device_service",
    ),
    (
        "{host}: {what}; check that it is on, and that ONVIF is enabled in its menu",
        "{host}：{what}；请检查设备是否开机，菜单中是否启用了 ONVIF",
    ),
    (
        "{host} has no ONVIF service on the ports {ports}; enable ONVIF in its menu, or name the port",
        "{host} 的端口 {ports} 上没有 ONVIF 服务；请在其菜单中启用 ONVIF，或写明端口",
    ),
    (
        "{host} does not answer as an ONVIF device: {what}",
        "{host} 的应答不像 ONVIF 设备：{what}",
    ),
    (
        "{host} redirects to {to}; name that address if it is the camera's",
        "{host} 转向 {to}；如果那是摄像机的地址，请直接填写",
    ),
    ("{host} refuses {call}: {reason}", "{host} 拒绝 {call}：{reason}"),
    ("{host} asks for a user and a password", "{host} 需要用户名和密码"),
    (
        "{host} refuses user or password (tried {tried}); many cameras keep users of their own for ONVIF: add one in its menu, or correct the password",
        "{host} 拒绝了用户名或密码（尝试了 {tried}）；许多摄像机的 ONVIF 用户是单独的：请在其菜单中添加，或改正密码",
    ),
    (
        "{host} asks for the password in the clear (Basic), which was not sent; enable Digest in its menu, or allow it",
        "{host} 要求明文密码（Basic），没有发送；请在其菜单中启用 Digest，或允许明文",
    ),
    (
        "{host}: not asked {call}: the time is over",
        "{host}：时间已到，没有询问 {call}",
    ),
    ("credentials: {error}", "登录信息：{error}"),
    (
        "{host}: no stream is known; give the stream's URL, a brand, or the user and password for ONVIF",
        "{host}：不知道码流地址；请填写码流地址、品牌，或 ONVIF 的用户名和密码",
    ),
    (
        "{host}: no stream is known: {why}; give the stream's URL, a brand, or the user and password for ONVIF",
        "{host}：不知道码流地址：{why}；请填写码流地址、品牌，或 ONVIF 的用户名和密码",
    ),
    ("the device asks for another login", "设备要求另一个登录"),
    (
        "the camera asks for a login in the clear ({offered}), and the password was not sent; enable Digest in its menu, or allow it",
        "摄像机要求明文登录（{offered}），密码没有发送；请在其菜单中启用 Digest，或允许明文",
    ),
];
