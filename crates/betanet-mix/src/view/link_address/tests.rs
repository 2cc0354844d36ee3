use std::net::SocketAddrV6;

use super::*;

/// INV-LINK-67
#[test]
fn an_address_or_a_name_is_written_in_one_way() {
    for text in [
        "192.0.2.1:9000",
        "127.0.0.1:1",
        "[2001:db8::1]:65535",
        "[::1]:9000",
        "mix.example:9000",
        "a-1.b2.example:7",
        "localhost:7",
        &format!("{0}.{0}.{0}.{1}:1", "a".repeat(63), "b".repeat(61)),
    ] {
        let address: LinkAddress = text.parse().unwrap();
        assert_eq!(text, address.to_string());
        let json = serde_json::to_string(&address).unwrap();
        assert_eq!(address, serde_json::from_str(&json).unwrap());
    }
    assert_eq!("[2001:db8::1]:9", "[2001:DB8:0::1]:9".parse::<LinkAddress>().unwrap().to_string());
}

/// INV-LINK-67
#[test]
fn what_nobody_else_can_dial_is_refused_with_what_to_do() {
    use LinkAddressError::{Form, LinkLocal, Mapped, NotOne, Port};
    for (text, why) in [
        ("", Form),
        ("192.0.2.1", Form),
        ("mix.example", Form),
        (":9000", Form),
        ("192.0.2.1:", Form),
        ("192.0.2.1:65536", Form),
        ("192.0.2.1:+1", Form),
        ("192.0.2.1:09", Form),
        ("::1:9000", Form),
        ("[192.0.2.1]:9000", Form),
        ("[::1:9000", Form),
        ("[mix.example]:9000", Form),
        // What a resolver would take for 127.0.0.1.
        ("127.1:9000", Form),
        ("2130706433:9000", Form),
        ("0x7f000001:9000", Form),
        ("0177.0.0.1:9000", Form),
        ("MIX.example:9000", Form),
        ("mix.example.:9000", Form),
        ("mix..example:9000", Form),
        ("-mix.example:9000", Form),
        ("mix_1.example:9000", Form),
        ("mi x.example:9000", Form),
        ("mix\n.example:9000", Form),
        ("grüße.example:9000", Form),
        (&format!("{}.example:1", "a".repeat(64)), Form),
        (&format!("{0}.{0}.{0}.{1}:1", "a".repeat(63), "b".repeat(62)), Form),
        ("192.0.2.1:0", Port),
        ("[::1]:0", Port),
        ("mix.example:0", Port),
        ("0.0.0.0:9000", NotOne),
        ("[::]:9000", NotOne),
        ("224.0.0.1:9000", NotOne),
        ("255.255.255.255:9000", NotOne),
        ("[ff02::1]:9000", NotOne),
        ("[::ffff:192.0.2.1]:9000", Mapped),
        ("169.254.1.1:9000", LinkLocal),
        ("[fe80::1]:9000", LinkLocal),
        ("[fe80::1%3]:9000", LinkLocal),
        ("[fe80::1%eth0]:9000", LinkLocal),
    ] {
        assert_eq!(Err(why), text.parse::<LinkAddress>(), "{text}");
        assert!(serde_json::from_value::<LinkAddress>(text.into()).is_err(), "{text}");
    }
    let scoped = SocketAddr::V6(SocketAddrV6::new("2001:db8::1".parse().unwrap(), 9, 0, 4));
    assert_eq!(Err(LinkLocal), LinkAddress::try_from(scoped));
}

#[test]
fn what_leads_everybody_to_his_own_machine_is_known() {
    let is_loopback = |text: &str| text.parse::<LinkAddress>().unwrap().is_loopback();
    for own in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1", "mix.localhost:1"] {
        assert!(is_loopback(own), "{own}");
    }
    for others in ["192.0.2.1:1", "[2001:db8::1]:1", "localhost.example:1", "notlocalhost:1"] {
        assert!(!is_loopback(others), "{others}");
    }
}
