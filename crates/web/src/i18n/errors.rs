//! Why something was not done.

crate::texts! {
    /// Why something was not done.
    pub struct ErrorTexts {
        log_in: "登录" / "Log in",
        not_found: "没有这个页面，或者您无权查看。" / "There is no such page, or you may not see it.",
        forbidden: "您的角色不能做这一步，需要“{role}”权限。" / "Your role does not allow this; it takes the role {role}.",
        forged: "请求未通过安全校验。请刷新页面后再试。" / "The request failed a security check. Reload the page and try again.",
        bad_request: "提交的内容有误：{what}" / "The input is not valid: {what}",
        too_large: "提交的内容太大。" / "The input is too large.",
        too_many: "操作太频繁，请 {seconds} 秒后再试。" / "Too many requests; try again in {seconds} seconds.",
        unavailable: "暂时无法完成：{what}" / "Not possible at the moment: {what}",
        internal: "系统内部出错，已记入日志。" / "An internal error occurred; it is in the log.",
        timed_out: "处理超时，请稍后再试。" / "It took too long; try again later.",
        unrecorded: "操作已执行，但未能写入审计日志：{what}" / "It was done, but is not in the audit log: {what}",
        proxied: "请求经由反向代理到达，但配置中没有这个代理（{setting}）。" / "The request came through a reverse proxy that the configuration does not name ({setting}).",
        unknown_identity: "代理登录的用户“{user}”在本机没有账号。" / "The user {user}, logged in at the proxy, has no account here.",
    }
}
