//! RTSP through HTTP: pictures arrive through a web server that knows nothing but the tunnel, and again after the camera hung up.

use crate::support::{
    Camera,
    clips::{self, SMALL},
    credentials,
    http_tunnel::HttpTunnel,
    odd_camera::{OddCamera, Oddities, Offer, PASSWORD, USER},
    settings, until,
};
use gridwatch_camera::{Transport, receive::ReceiverSettings};

fn receive(tunnel: &HttpTunnel) -> Camera {
    Camera::receive(ReceiverSettings {
        transport: Transport::Http,
        credentials: credentials(USER, PASSWORD),
        ..settings(&tunnel.url())
    })
}

#[test]
fn keyframes_arrive_through_the_tunnel() {
    let odd = OddCamera::start(&clips::clip(SMALL), Oddities::default());
    let tunnel = HttpTunnel::to(odd.port());
    let camera = receive(&tunnel);
    let keyframe = camera.keyframe_after(1);
    assert!(
        clips::clip(SMALL)
            .units()
            .iter()
            .any(|u| u.keyframe && keyframe.data.ends_with(&u.data[u.data.len() - 64..]))
    );
    assert_eq!((tunnel.opened(), camera.slot().stats().reconnects), (1, 0));
}

#[test]
fn a_login_and_a_new_connection_go_through_the_tunnel_too() {
    let odd = OddCamera::start(
        &clips::clip(SMALL),
        Oddities {
            logins: vec![Offer::Digest {
                algorithm: "MD5",
                qop: "auth",
            }],
            hang_up_after: Some(40),
            ..Oddities::default()
        },
    );
    let tunnel = HttpTunnel::to(odd.port());
    let camera = receive(&tunnel);
    camera.keyframe_after(0);
    until("another tunnel", || (tunnel.opened() >= 2).then_some(()));
    camera.keyframe_after(camera.slot().seq());
    assert!(odd.logins() >= 2);
}
