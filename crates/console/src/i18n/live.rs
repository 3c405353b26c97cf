//! Texts of the live view.

gridwatch_web::texts! {
    /// Texts of the live view on a camera's page.
    pub(crate) struct LiveTexts {
        title: "实时视频" / "Live view",
        recorded: "实时视频未打码，每次打开都记入审计日志。浏览器放不了的（如部分浏览器不支持 H.265），改为显示最新画面并说明原因。" / "Live video is not masked; each start is recorded in the audit log. Where the browser cannot play it (H.265 in some browsers), the newest looks are shown instead, with the reason.",
        no_script: "播放实时视频需要启用 JavaScript；上方的最新画面不需要。" / "The live view needs JavaScript; the newest look above does not.",
        not_masked: "实时视频无法打码，您的角色只能查看打码画面：请看上方的最新画面。" / "Live video cannot be masked, and your role sees masked pictures only: use the newest look above.",
        too_many: "打开的实时视频太多，请先关闭一个。" / "Too many live views are open; close one first.",
        not_received: "这台摄像机现在没有接收视频。" / "This camera is not received at the moment.",
        gstreamer: "这台摄像机经由 GStreamer 接收，得不到原始码流；改用内置 RTSP 客户端（source = \"auto\"）后可看实时视频。" / "This camera is received through GStreamer, which hands over decoded pictures; with the built-in RTSP client (source = \"auto\") it has a live view.",
        motion_jpeg: "这台摄像机发送的是 Motion JPEG，浏览器不能作为视频播放；请在摄像机中改为 H.264。" / "This camera sends Motion JPEG, which browsers do not play as video; set it to H.264.",
        ended: "摄像机现在没有视频：{reason}" / "The camera sends no video at the moment: {reason}",
        no_keyframe: "13 秒内没有收到关键帧；请把摄像机的 I 帧间隔设为 2 秒左右。" / "No keyframe came within 13 s; set the camera's keyframe interval to about 2 s.",
    }
}
