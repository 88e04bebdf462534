//! Asks DNS servers for the addresses of a name (RFC 1035), with the servers and the search list of
//! resolv.conf(5).
//!
//! It uses UDP only: the addresses of an API server fit into one packet. If an answer is cut off,
//! the addresses in it are used. It reads no file.

use crate::retry::Deadline;
use crate::small_file::error_text;
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, Question, RCODE, TYPE};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

const PORT: u16 = 53;
/// The maximum number of servers to ask, the same as in glibc.
const MOST_SERVERS: usize = 3;
/// The time to wait for the second address family when the first one is known. Some servers never
/// answer for a family that they do not have.
const SECOND_FAMILY: Duration = Duration::from_millis(200);

/// The settings of a resolv.conf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resolver {
    pub(crate) servers: Vec<SocketAddr>,
    search: Vec<String>,
    /// The search list comes first for a name with fewer dots than this.
    dots: usize,
    timeout: Duration,
    attempts: usize,
}

/// The result of a lookup.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The addresses, IPv4 first. If IPv4 is not routed, a connection to it fails immediately.
    Addresses(Vec<IpAddr>),
    /// The servers say that the name has no addresses.
    Nothing,
    /// No server gave a usable answer. Contains the reason for each server.
    Failed(String),
}

impl Resolver {
    /// Reads a resolv.conf. Skips everything that this module does not use.
    pub(crate) fn parse(text: &str) -> Self {
        let mut parsed = Self {
            servers: Vec::new(),
            search: Vec::new(),
            dots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
        };
        for line in text.lines() {
            let mut words =
                line.split_ascii_whitespace().take_while(|word| !word.starts_with(['#', ';']));
            match words.next() {
                Some("nameserver") => {
                    parsed.servers.extend(
                        words
                            .next()
                            .and_then(|word| word.parse().ok())
                            .map(|address| SocketAddr::new(address, PORT)),
                    );
                }
                // Of several `search` and `domain` lines, the last one counts.
                Some("search" | "domain") => {
                    parsed.search = words.map(|word| word.trim_matches('.').to_owned()).collect()
                }
                Some("options") => words.for_each(|word| parsed.set(word)),
                _ => {}
            }
        }
        parsed.search.retain(|domain| !domain.is_empty());
        parsed.servers.truncate(MOST_SERVERS);
        if parsed.servers.is_empty() {
            parsed.servers.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PORT));
        }
        parsed
    }

    fn set(&mut self, option: &str) {
        let Some((name, Ok(value))) =
            option.split_once(':').map(|(name, value)| (name, value.parse::<u8>()))
        else {
            return;
        };
        match name {
            "ndots" => self.dots = value.min(15).into(),
            "timeout" => self.timeout = Duration::from_secs(value.clamp(1, 30).into()),
            "attempts" => self.attempts = value.clamp(1, 5).into(),
            _ => {}
        }
    }

    /// Returns the names to ask for, in order.
    fn names(&self, name: &str) -> Vec<String> {
        if let Some(absolute) = name.strip_suffix('.') {
            return vec![absolute.to_owned()];
        }
        let mut names: Vec<String> =
            self.search.iter().map(|domain| format!("{name}.{domain}")).collect();
        let at = if name.matches('.').count() < self.dots { names.len() } else { 0 };
        names.insert(at, name.to_owned());
        names
    }

    /// Looks up a name.
    pub(crate) fn find(&self, name: &str, deadline: &Deadline) -> Found {
        let mut failed = None;
        for name in self.names(name) {
            match self.ask(&name, deadline) {
                Found::Nothing => {}
                Found::Addresses(found) => return Found::Addresses(found),
                Found::Failed(reason) => failed = failed.or(Some(reason)),
            }
        }
        failed.map_or(Found::Nothing, Found::Failed)
    }

    fn ask(&self, name: &str, deadline: &Deadline) -> Found {
        let mut failed: Vec<String> = Vec::new();
        for _ in 0..self.attempts {
            for server in &self.servers {
                // Leave some time for the next server and for the connection.
                let wait = self.timeout.min(deadline.left() / 3);
                if wait.is_zero() {
                    return Found::Failed(failed.join("; "));
                }
                match exchange(*server, name, &Deadline::after(wait)) {
                    Ok(found) => {
                        return if found.is_empty() {
                            Found::Nothing
                        } else {
                            Found::Addresses(found)
                        };
                    }
                    Err(reason) => {
                        let sentence = format!("{}: {reason}", server.ip());
                        if !failed.contains(&sentence) {
                            failed.push(sentence);
                        }
                    }
                }
            }
        }
        Found::Failed(failed.join("; "))
    }
}

/// Asks one server for both address families at once.
fn exchange(server: SocketAddr, name: &str, deadline: &Deadline) -> Result<Vec<IpAddr>, String> {
    let own: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "no answer".to_owned(),
        _ => error_text(&error),
    };
    // A connected socket receives packets from this server only, and reports an error if no process
    // listens on the server's port.
    let socket = UdpSocket::bind(own)
        .and_then(|socket| socket.connect(server).map(|()| socket))
        .map_err(failed)?;
    let mut open = vec![(identifier(), TYPE::A), (identifier(), TYPE::AAAA)];
    for (id, family) in &open {
        let query = query(*id, name, *family).ok_or("the name is too long for DNS")?;
        socket.send(&query).map_err(failed)?;
    }
    let mut found = Vec::new();
    let mut buffer = [0; 4096];
    let mut patience = deadline.left();
    while !open.is_empty() {
        let wait = deadline.left().min(patience);
        let received = match wait.is_zero() {
            true => Err(io::ErrorKind::TimedOut.into()),
            false => socket.set_read_timeout(Some(wait)).and_then(|()| socket.recv(&mut buffer)),
        };
        let length = match received {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) if !found.is_empty() => break,
            Err(error) => return Err(failed(error)),
        };
        let Some((at, addresses)) = read(&buffer[..length], name, &open)? else {
            continue;
        };
        open.remove(at);
        for address in addresses {
            if !found.contains(&address) {
                found.push(address);
            }
        }
        if !found.is_empty() {
            patience = SECOND_FAMILY;
        }
    }
    found.sort_by_key(IpAddr::is_ipv6);
    Ok(found)
}

/// Returns which of the open questions a packet answers, and the addresses in it. Returns `None`
/// for a packet that answers none of them.
fn read(
    packet: &[u8],
    name: &str,
    open: &[(u16, TYPE)],
) -> Result<Option<(usize, Vec<IpAddr>)>, String> {
    let Ok(answer) = Packet::parse(packet) else {
        return Ok(None);
    };
    let asks = |question: &Question<'_>, family: TYPE| {
        question.qtype == QTYPE::TYPE(family)
            && question.qname.to_string().eq_ignore_ascii_case(name)
    };
    let is_answer = |(id, family): &(u16, TYPE)| {
        answer.id() == *id
            && answer.has_flags(PacketFlag::RESPONSE)
            && answer.questions.first().is_some_and(|found| asks(found, *family))
    };
    let Some(at) = open.iter().position(is_answer) else {
        return Ok(None);
    };
    match answer.rcode() {
        RCODE::NoError | RCODE::NameError => {}
        refused => return Err(format!("it answers {refused:?}")),
    }
    let addresses: Vec<IpAddr> = answer
        .answers
        .iter()
        .filter_map(|record| match &record.rdata {
            RData::A(found) => Some(Ipv4Addr::from(found.address).into()),
            RData::AAAA(found) => Some(Ipv6Addr::from(found.address).into()),
            _ => None,
        })
        .collect();
    if addresses.is_empty() && answer.has_flags(PacketFlag::TRUNCATION) {
        return Err("its answer does not fit into a packet".to_owned());
    }
    Ok(Some((at, addresses)))
}

fn query(id: u16, name: &str, family: TYPE) -> Option<Vec<u8>> {
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(
        Name::new(name).ok()?,
        family.into(),
        CLASS::IN.into(),
        false,
    ));
    packet.build_bytes_vec().ok()
}

/// Returns a random number that an attacker cannot guess. The random keys of the standard library's
/// hasher are good enough for it.
fn identifier() -> u16 {
    use std::hash::{BuildHasher, RandomState};
    let [first, second, ..] = RandomState::new().hash_one(PORT).to_ne_bytes();
    u16::from_ne_bytes([first, second])
}

#[cfg(test)]
mod tests {
    use super::*;
    use simple_dns::ResourceRecord;
    use simple_dns::rdata::{A, AAAA};
    use std::sync::mpsc;

    /// The reaction of a test server to a question for a name and a family.
    type Says = fn(&str, TYPE) -> Reply;

    enum Reply {
        Addresses(&'static [&'static str]),
        Code(RCODE),
        Truncated,
        OfAnother,
        Silence,
    }

    /// Starts a server on its own port. It reports each question that it receives.
    fn server(says: Says) -> (SocketAddr, mpsc::Receiver<String>) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let (tell, asked) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let query = Packet::parse(&buffer[..length]).unwrap();
                let question = query.questions[0].clone();
                let family = if question.qtype == TYPE::A.into() { TYPE::A } else { TYPE::AAAA };
                let name = question.qname.to_string();
                if tell.send(format!("{name} {family:?}")).is_err() {
                    return;
                }
                let mut reply = Packet::new_reply(query.id());
                reply.set_flags(PacketFlag::RECURSION_AVAILABLE);
                match says(&name, family) {
                    Reply::Addresses(found) => {
                        reply.answers = found.iter().map(|text| record(text)).collect()
                    }
                    Reply::Code(code) => *reply.rcode_mut() = code,
                    Reply::Truncated => reply.set_flags(PacketFlag::TRUNCATION),
                    Reply::OfAnother => {
                        reply.set_id(query.id().wrapping_add(1));
                        reply.answers = vec![record("192.0.2.66")];
                    }
                    Reply::Silence => continue,
                }
                reply.questions.push(question);
                socket.send_to(&reply.build_bytes_vec().unwrap(), from).unwrap();
            }
        });
        (address, asked)
    }

    fn record(text: &str) -> ResourceRecord<'static> {
        let data = match text.parse().unwrap() {
            IpAddr::V4(address) => RData::A(A::from(address)),
            IpAddr::V6(address) => RData::AAAA(AAAA::from(address)),
        };
        ResourceRecord::new(Name::new_unchecked("whatever.example"), CLASS::IN, 5, data)
    }

    fn resolver(servers: &[SocketAddr], text: &str) -> Resolver {
        Resolver { servers: servers.to_vec(), ..Resolver::parse(text) }
    }

    fn find(resolver: &Resolver, name: &str) -> Found {
        resolver.find(name, &Deadline::after(Duration::from_secs(6)))
    }

    fn addresses(texts: &[&str]) -> Found {
        Found::Addresses(texts.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn resolv_conf_is_read_and_its_mistakes_passed_over() {
        let text = "# c\nnameserver 10.0.0.1 # x\nnameserver fd00::1\nnameserver fe80::1%eth0\nnameserver 10.0.0.3\nnameserver 10.0.0.4\n\
                    domain a.example\nsearch b.example. c.example\noptions ndots:5 timeout:2 attempts:x rotate edns0\n";
        let read = Resolver::parse(text);
        let servers: Vec<String> = read.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.0.0.1:53", "[fd00::1]:53", "10.0.0.3:53"]);
        assert_eq!(read.search, ["b.example", "c.example"]);
        assert_eq!((read.dots, read.timeout, read.attempts), (5, Duration::from_secs(2), 2));
        assert_eq!(Resolver::parse("").servers, ["127.0.0.1:53".parse().unwrap()]);
    }

    #[test]
    fn the_search_list_comes_first_for_names_with_few_dots() {
        let names = |options: &str, name: &str| {
            resolver(&[], &format!("search a b\n{options}")).names(name).join(" ")
        };
        assert_eq!(names("", "api"), "api.a api.b api");
        assert_eq!(names("", "api.x"), "api.x api.x.a api.x.b");
        assert_eq!(names("options ndots:2", "api.x"), "api.x.a api.x.b api.x");
        assert_eq!(names("", "api."), "api");
    }

    #[test]
    fn both_families_are_asked_at_once_and_ipv4_comes_first() {
        let (address, asked) = server(|_, family| {
            Reply::Addresses(if family == TYPE::A {
                &["192.0.2.1", "192.0.2.2"]
            } else {
                &["2001:db8::1"]
            })
        });
        assert_eq!(
            find(&resolver(&[address], ""), "api.example"),
            addresses(&["192.0.2.1", "192.0.2.2", "2001:db8::1"])
        );
        assert_eq!(asked.try_iter().collect::<Vec<_>>(), ["api.example A", "api.example AAAA"]);
    }

    #[test]
    fn a_family_that_is_never_answered_for_costs_little() {
        let (address, _asked) = server(|_, family| {
            if family == TYPE::A { Reply::Addresses(&["192.0.2.1"]) } else { Reply::Silence }
        });
        let deadline = Deadline::after(Duration::from_secs(60));
        assert_eq!(
            resolver(&[address], "").find("api.example", &deadline),
            addresses(&["192.0.2.1"])
        );
        assert!(Duration::from_secs(57) < deadline.left());
    }

    #[test]
    fn the_search_list_is_gone_through_until_a_name_is_there() {
        let (address, asked) = server(|name, _| match name {
            "api.b" => Reply::Addresses(&["192.0.2.1"]),
            "api.a" => Reply::Addresses(&[]),
            _ => Reply::Code(RCODE::NameError),
        });
        assert_eq!(find(&resolver(&[address], "search x a b"), "api"), addresses(&["192.0.2.1"]));
        assert_eq!(
            asked.try_iter().step_by(2).collect::<Vec<_>>(),
            ["api.x A", "api.a A", "api.b A"]
        );
        assert_eq!(find(&resolver(&[address], ""), "api"), Found::Nothing);
    }

    #[test]
    fn a_server_that_fails_is_followed_by_the_next() {
        let (broken, _asked) = server(|_, _| Reply::Code(RCODE::ServerFailure));
        let (cut, _asked) = server(|_, _| Reply::Truncated);
        let (good, _asked) = server(|_, _| Reply::Addresses(&["192.0.2.1"]));
        let nobody = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        for servers in [[broken, good], [cut, good], [nobody, good]] {
            assert_eq!(
                find(&resolver(&servers, ""), "api.example"),
                addresses(&["192.0.2.1"]),
                "{servers:?}"
            );
        }
        let Found::Failed(reason) = find(&resolver(&[broken, nobody], ""), "api.example") else {
            panic!("an answer from nobody")
        };
        assert!(reason.contains("ServerFailure") && reason.contains("ECONNREFUSED"), "{reason}");
    }

    #[test]
    fn an_answer_to_another_question_is_none_and_silence_ends() {
        let (address, _asked) =
            server(|_, family| if family == TYPE::A { Reply::OfAnother } else { Reply::Silence });
        let found = resolver(&[address], "options timeout:1 attempts:1")
            .find("api.example", &Deadline::after(Duration::from_millis(600)));
        assert_eq!(found, Found::Failed("127.0.0.1: no answer".to_owned()));
        let too_long = format!("{}.example", "a".repeat(64));
        assert!(matches!(
            find(&resolver(&[address], "options attempts:1"), &too_long),
            Found::Failed(_)
        ));
    }

    proptest::proptest! {
        #[test]
        fn no_packet_is_too_odd(change in proptest::collection::vec((0usize..90, proptest::prelude::any::<u8>()), 1..6), cut in 0usize..90) {
            let mut reply = Packet::new_reply(7);
            reply.questions.push(Question::new(Name::new_unchecked("api.example"), TYPE::A.into(), CLASS::IN.into(), false));
            reply.answers = vec![record("192.0.2.1"), record("2001:db8::1")];
            let mut bytes = reply.build_bytes_vec_compressed().unwrap();
            proptest::prop_assert_eq!(read(&bytes, "api.example", &[(7, TYPE::A)]).unwrap().unwrap().1.len(), 2);
            for (at, byte) in change {
                let length = bytes.len();
                bytes[at % length] = byte;
            }
            let _ = read(&bytes, "api.example", &[(7, TYPE::A)]);
            bytes.truncate(cut);
            let _ = read(&bytes, "api.example", &[(7, TYPE::A)]);
        }

        #[test]
        fn no_resolv_conf_and_no_name_is_too_odd(text in "([a-z:. #;%-]|nameserver|options|search|ndots:|\n|[0-9]){0,30}", name in "[a-z.]{0,80}") {
            let read = Resolver::parse(&text);
            proptest::prop_assert!(!read.servers.is_empty() && !read.names(&name).is_empty());
            let _ = query(1, &name, TYPE::A);
        }
    }
}
