//! Texts that every page has: navigation, language, theme, errors.

gridwatch_web::texts! {
    /// Texts of the frame around every page.
    pub(crate) struct CommonTexts {
        skip: "跳到正文" / "Skip to content",
        navigation: "主导航" / "Main navigation",
        wall: "画面总览" / "Wall",
        cases: "案卷" / "Cases",
        users: "用户" / "Users",
        log_out: "退出" / "Log out",
        language: "语言" / "Language",
        chinese: "中文" / "中文",
        english: "English" / "English",
        theme: "外观" / "Theme",
        theme_auto: "跟随系统" / "As the system",
        theme_light: "浅色" / "Light",
        theme_dark: "深色" / "Dark",
        apply: "应用" / "Apply",
        save: "保存" / "Save",
        remove: "删除" / "Remove",
        back: "返回" / "Back",
        all: "全部" / "All",
        yes: "是" / "Yes",
        no: "否" / "No",
        filter: "筛选" / "Filter",
        more: "下一页" / "Next page",
        ready: "运行正常，发现问题会上报" / "Running: problems would be filed",
        not_ready: "现在不会上报：" / "Nothing would be filed now:",
        config_refused: "配置文件有错误，未生效，仍按原配置运行：" / "The configuration file has faults; the old configuration stays in force:",
        config_restart: "下列修改要重启后才生效：" / "These changes take effect at the next start:",
        live_lost: "连接已断开，正在重连……" / "Connection lost; reconnecting…",
        error_title: "出错了" / "Something went wrong",
        unwritable: "配置无法保存：服务的用户不能在文件夹 {dir} 中新建文件。请把该文件夹及其中的文件交给服务的用户（chown），并在 systemd 单元中写明 ReadWritePaths={dir}；步骤见 edge-deploy/README.md。" / "The configuration cannot be saved: the service's user may not make files in the folder {dir}. Give the folder and the files in it to that user (chown), and name it in the systemd unit: ReadWritePaths={dir}. edge-deploy/README.md has the steps.",
    }
}
