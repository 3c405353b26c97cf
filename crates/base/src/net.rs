//! Addresses that are not those of other machines of a network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// Metadata services that are not on link-local addresses: Alibaba Cloud, and AWS over IPv6.
const METADATA: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// Loopback, link-local, unspecified, multicast and broadcast addresses, and metadata services.
pub fn is_reserved(address: IpAddr) -> bool {
    let address = address.to_canonical();
    METADATA.contains(&address)
        || match address {
            IpAddr::V4(v4) => {
                v4.is_loopback() || v4.is_link_local() || v4.octets()[0] == 0 || v4.is_multicast() || v4.is_broadcast()
            }
            IpAddr::V6(v6) => {
                v6.is_loopback()
                    || v6.is_unspecified()
                    || v6.is_unicast_link_local()
                    || v6.is_multicast()
                    || is_embedded(v6)
            }
        }
}

/// An IPv4 address in one of IPv6 that a translator or a tunnel may lead to: NAT64, 6to4, and the deprecated "compatible" ones.
fn is_embedded(address: Ipv6Addr) -> bool {
    let parts = address.segments();
    (parts[0], parts[1]) == (0x64, 0xff9b) || parts[0] == 0x2002 || parts[..6] == [0; 6]
}

/// True if the address is one of this box's interfaces: only to those can a socket be bound.
pub fn is_own(address: IpAddr) -> bool {
    UdpSocket::bind((address.to_canonical(), 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_box_and_what_answers_only_on_a_link_are_told_from_cameras() {
        for address in [
            "127.0.0.1",
            "127.8.8.8",
            "::1",
            "::ffff:127.0.0.1",
            "169.254.169.254",
            "fe80::1",
            "0.0.0.0",
            "100.100.100.200",
        ] {
            assert!(is_reserved(address.parse().unwrap()), "{address}");
        }
        for address in ["192.168.1.64", "10.0.0.8", "2001:db8::1"] {
            assert!(!is_reserved(address.parse().unwrap()), "{address}");
        }
        assert!(is_own("127.0.0.1".parse().unwrap()) && !is_own("192.0.2.1".parse().unwrap()));
    }
}
