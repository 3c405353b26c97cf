//! Texts of login, account, users and tokens, and the names of roles.

use super::Phrase;
use crate::settings::Role;

crate::texts! {
    /// Texts of login, account, users and tokens.
    pub struct AccountTexts {
        locked: "密码错误次数太多，请 {seconds} 秒后再试。" / "Too many wrong passwords; try again in {seconds} seconds.",
        overloaded: "登录请求太多，请稍后再试。" / "Too many logins at the moment; try again later.",
        local_user: "本机（未设用户）" / "On this machine (no users set up)",
        wrong: "用户名或密码不正确。" / "Wrong user name or password.",
        exists: "已有同名的用户或令牌。" / "There is a user or token with this name already.",
        last_admin: "这是唯一有密码的管理员，请先添加另一名管理员。" / "This is the only administrator with a password; make another one first.",
        too_many: "数量已达上限，请先删除一些。" / "There are too many; remove some first.",
        bad_name: "名称只能用字母、汉字、数字和 . _ @ -，最多 64 个字符。" / "A name has 1 to 64 letters, digits or . _ @ - only.",
        admin_groups: "管理员不受分组限制：请不要填写分组，或选择其他角色。" / "An administrator is never restricted to groups: give none, or another role.",
        bad_group: "分组名称只能用英文字母、数字、- 和 _。" / "A group has letters, digits, - or _ only.",
        bad_password: "密码至少 10 个字符，且不能与用户名相同。" / "A password has 10 characters or more and is not the user name.",
        first_must_be_admin: "第一个用户必须是有密码的管理员。" / "The first user must be an administrator with a password.",
    }
}

crate::texts! {
    /// Names of roles.
    pub struct RoleTexts {
        viewer: "查看员" / "viewer",
        operator: "操作员" / "operator",
        admin: "管理员" / "administrator",
    }
}

impl RoleTexts {
    /// The name of a role.
    pub fn name(&self, role: Role) -> Phrase {
        match role {
            Role::Viewer => self.viewer,
            Role::Operator => self.operator,
            Role::Admin => self.admin,
        }
    }
}
