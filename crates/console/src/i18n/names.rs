//! Names of states, roles, labels and evidence.

use gridwatch_contract::EvidenceRole;
use gridwatch_engine::{CaseState, Finding, View};

use crate::daemon::Connection;
use gridwatch_web::i18n::Phrase;

gridwatch_web::texts! {
    /// Names of things that several pages show.
    pub(crate) struct NameTexts {
        connecting: "正在连接" / "Connecting",
        live: "在线" / "Live",
        degraded: "在线（受限）" / "Live, degraded",
        no_pictures: "收不到可用画面" / "No usable pictures",
        refused: "登录被摄像机拒绝" / "Login refused by the camera",
        down: "离线" / "Down",
        ended: "文件已播完" / "End of file",
        set_aside: "暂停解码" / "Set aside",
        clear: "画面正常" / "Clear view",
        dark: "画面过暗" / "View too dark",
        blurred: "画面模糊" / "View blurred",
        blocked: "画面被遮挡" / "View blocked",
        frozen: "画面冻结" / "View frozen",
        damaged: "画面损坏" / "Picture damaged",
        moved: "摄像机被移动" / "Camera moved",
        no_look: "尚未查看" / "No look yet",
        filed: "已上报" / "Filed",
        accepted: "已立案" / "Accepted",
        rejected: "不予立案" / "Rejected",
        duplicate_of: "重复上报" / "Duplicate",
        dispatched: "已派遣" / "Dispatched",
        disposed: "已处置" / "Disposed",
        verify_requested: "待核查" / "Verification requested",
        closed: "已结案" / "Closed",
        reopened: "重新立案" / "Reopened",
        withdrawn: "已撤销" / "Withdrawn",
        scene: "全景" / "Scene",
        closeup: "近景" / "Close-up",
        overlay: "标注图" / "Marked scene",
        before: "处置前" / "Before",
        after: "处置后" / "After",
        cleared: "已处置" / "Cleared",
        still_present: "未处置" / "Still present",
        unverifiable: "无法核查" / "Unverifiable",
        author_box: "边缘盒子" / "box",
        author_platform: "平台" / "platform",
        zone_watch: "布控区域" / "watch zone",
        zone_exclude: "排除区域" / "excluded zone",
        zone_permitted: "限时允许区域" / "permitted zone",
        zone_container: "垃圾容器区域" / "container zone",
        zone_shop: "店铺自有区域" / "shop zone",
        zone_privacy: "隐私遮挡区域" / "privacy zone",
        person: "人" / "person",
        car: "汽车" / "car",
        truck: "货车" / "truck",
        bus: "公交车" / "bus",
        motorcycle: "摩托车" / "motorcycle",
        bicycle: "自行车" / "bicycle",
        garbage: "垃圾" / "garbage",
        overflow: "垃圾满溢" / "overflowing bin",
        sign: "招牌" / "sign",
        banner: "横幅" / "banner",
        small_ad: "小广告" / "small ad",
        object: "不明物体" / "unidentified object",
        face: "人脸" / "face",
    }
}

impl NameTexts {
    pub(crate) fn connection(&self, state: Connection) -> Phrase {
        match state {
            Connection::Connecting => self.connecting,
            Connection::Live => self.live,
            Connection::Degraded => self.degraded,
            Connection::NoPictures => self.no_pictures,
            Connection::Refused => self.refused,
            Connection::Down => self.down,
            Connection::Ended => self.ended,
            Connection::SetAside => self.set_aside,
        }
    }

    pub(crate) fn sight(&self, view: Option<View>) -> Phrase {
        match view {
            None => self.no_look,
            Some(View::Clear) => self.clear,
            Some(View::Dark) => self.dark,
            Some(View::Blurred) => self.blurred,
            Some(View::Blocked) => self.blocked,
            Some(View::Frozen) => self.frozen,
            Some(View::Damaged) => self.damaged,
            Some(View::Moved) => self.moved,
        }
    }

    pub(crate) fn case_state(&self, state: CaseState) -> Phrase {
        match state {
            CaseState::Filed => self.filed,
            CaseState::Accepted => self.accepted,
            CaseState::Rejected => self.rejected,
            CaseState::DuplicateOf => self.duplicate_of,
            CaseState::Dispatched => self.dispatched,
            CaseState::Disposed => self.disposed,
            CaseState::VerifyRequested => self.verify_requested,
            CaseState::Closed => self.closed,
            CaseState::Reopened => self.reopened,
            CaseState::Withdrawn => self.withdrawn,
        }
    }

    pub(crate) fn evidence(&self, role: EvidenceRole) -> Phrase {
        match role {
            EvidenceRole::Scene => self.scene,
            EvidenceRole::Closeup => self.closeup,
            EvidenceRole::Overlay => self.overlay,
            EvidenceRole::Before => self.before,
            EvidenceRole::After => self.after,
        }
    }

    pub(crate) fn finding(&self, finding: Finding) -> Phrase {
        match finding {
            Finding::Cleared => self.cleared,
            Finding::StillPresent => self.still_present,
            Finding::Unverifiable => self.unverifiable,
        }
    }

    pub(crate) fn author(&self, author: &str) -> Phrase {
        match author {
            "platform" => self.author_platform,
            _ => self.author_box,
        }
    }

    /// The name of a label, if it is a common one.
    pub(crate) fn label(&self, label: &str) -> Option<Phrase> {
        Some(match label {
            "person" => self.person,
            "car" => self.car,
            "truck" => self.truck,
            "bus" => self.bus,
            "motorcycle" => self.motorcycle,
            "bicycle" => self.bicycle,
            "garbage" => self.garbage,
            "overflow" => self.overflow,
            "sign" => self.sign,
            "banner" | "text_banner" => self.banner,
            "small_ad" => self.small_ad,
            "object" => self.object,
            "face" => self.face,
            _ => return None,
        })
    }
}
