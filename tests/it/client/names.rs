//! Host names, resolved without the C library. A static executable that called getaddrinfo would
//! load the modules that nsswitch.conf names, from the host's C library. In this test, the first
//! such module ends the process.

use super::certificates::Authority;
use super::server::{Identity, Server, kubeconfig};
use crate::support::sandbox::{Call, Sandbox, configuration};
use simple_dns::rdata::{A, RData};
use simple_dns::{CLASS, Packet, QTYPE, ResourceRecord, TYPE};
use std::net::{Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::process::Command;

const MODULE: &str =
    "#include <stdlib.h>\n__attribute__((constructor)) static void loaded(void) { abort(); }\n";
const ASKS_THE_C_LIBRARY: &str = "#include <netdb.h>\n\
    int main(int n, char **names) { struct addrinfo *found; return n < 2 || getaddrinfo(names[1], 0, 0, &found) != 0; }\n";
const SIGABRT: i32 = 6;

/// An nsswitch.conf and the module that it names.
struct Trap {
    sandbox: Sandbox,
    nsswitch: PathBuf,
}

impl Trap {
    /// Creates it, or returns why that is impossible here.
    fn set() -> Result<Self, String> {
        let sandbox = Sandbox::new();
        if !nix::unistd::geteuid().is_root() {
            return Err("needs root".to_owned());
        }
        let compile = |source: &str, name: &str, options: &[&str]| {
            let from = sandbox.write(&format!("{name}.c"), source);
            let made = Command::new("gcc")
                .args(options)
                .arg("-o")
                .arg(sandbox.path(name))
                .arg(from)
                .output();
            made.map_err(|error| format!("no gcc: {error}")).and_then(|made| {
                made.status
                    .success()
                    .then_some(())
                    .ok_or_else(|| String::from_utf8_lossy(&made.stderr).replace('\n', "; "))
            })
        };
        compile(MODULE, "libnss_abort.so.2", &["-shared", "-fPIC", "-nostartfiles"])?;
        // The linker warns about exactly what this test is about.
        compile(ASKS_THE_C_LIBRARY, "asks", &["-static"])?;
        if Command::new("strace").arg("--version").output().is_err() {
            return Err("there is no strace".to_owned());
        }
        let nsswitch = sandbox.write("nsswitch.conf", "hosts: abort files dns\n");
        Ok(Self { sandbox, nsswitch })
    }

    /// Returns a call that loads the module if it asks the C library for a name.
    fn around(&self, mut call: Call) -> Call {
        call.seeing("/etc/nsswitch.conf", &self.nsswitch)
            .set("LD_LIBRARY_PATH", self.sandbox.root.as_os_str());
        call
    }

    /// Checks that the trap works: another static executable does load the module.
    fn shuts(&self) {
        let call = self.around(Call::bare());
        let mut command = call.command();
        let words: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        let (_, wrapper) = words.split_last().unwrap();
        let mut asking = Command::new(command.get_program());
        asking
            .args(wrapper)
            .arg(self.sandbox.path("asks"))
            .arg("api.trap.test")
            .env("LD_LIBRARY_PATH", &self.sandbox.root);
        let ended = asking.output().unwrap();
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&ended.status),
            Some(SIGABRT),
            "{ended:?} {:?}",
            command.output()
        );
    }

    /// Makes an ADD with the API server at this name and port. The error contains the server's
    /// refusal, and no opened file is a module of the C library.
    fn is_not_stepped_into(&self, authority: &Authority, server: &Server, call: &mut Call) {
        self.sandbox.write("ca.crt", &authority.pem);
        let url = format!("https://api.trap.test:{}", server.address.port());
        let kubeconfig = kubeconfig(
            &self.sandbox,
            &format!("server: '{url}', certificate-authority: ca.crt"),
            "token: s3cret",
        );
        let flat = serde_json::json!({"kubernetes": {"kubeconfig": kubeconfig}, "data_dir": self.sandbox.store(), "node_name": "n1"});
        self.sandbox.write("flat.conf", &flat.to_string());
        let trace = self.sandbox.path("trace");
        call.through(&[
            "strace",
            "-f",
            "-qq",
            "-e",
            "trace=open,openat,connect",
            "-o",
            trace.to_str().unwrap(),
        ]);
        let ended = self.around(call.clone()).run();
        assert!(!server.requests().is_empty(), "{ended:?}");
        assert_eq!(ended.code(), 105, "{ended:?}");
        let opened = std::fs::read_to_string(trace).unwrap();
        assert!(opened.contains("/etc/hosts"), "{opened}");
        assert!(!opened.contains("libnss") && !opened.contains("nsswitch"), "{opened}");
    }

    fn add(&self) -> Call {
        let mut call = self.sandbox.call("ADD");
        call.set("CNI_CONTAINERID", "c1").stdin(configuration(r#""range":"10.0.0.0/29""#));
        call
    }
}

fn refusing(authority: &Authority) -> Server {
    let certificate = authority.server(&["api.trap.test"]);
    let identity = Identity { certificate, clients: None, versions: rustls::ALL_VERSIONS };
    Server::start_as(&identity, "127.0.0.1", |mut talk| {
        while talk.hears() {
            talk.says("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
        }
    })
}

#[test]
fn a_name_of_etc_hosts_is_found_without_the_c_library() {
    let trap = match Trap::set() {
        Ok(trap) => trap,
        Err(reason) => return skipped!("{reason}"),
    };
    trap.shuts();
    let authority = Authority::new("ca");
    let server = refusing(&authority);
    // No process listens at the first of the two addresses.
    let hosts = trap.sandbox.write(
        "hosts",
        "127.0.0.1 localhost\n127.0.0.77 api.trap.test\n127.0.0.1 other.test API.trap.test\n",
    );
    let mut call = trap.add();
    call.seeing("/etc/hosts", &hosts);
    trap.is_not_stepped_into(&authority, &server, &mut call);
}

#[test]
fn a_name_of_dns_is_found_without_the_c_library() {
    let trap = match Trap::set() {
        Ok(trap) => trap,
        Err(reason) => return skipped!("{reason}"),
    };
    // An address of this machine on which no process listens.
    let socket = match UdpSocket::bind("127.0.0.153:53") {
        Ok(socket) => socket,
        Err(error) => return skipped!("127.0.0.153:53: {error}"),
    };
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let query = Packet::parse(&buffer[..length]).unwrap();
            let question = query.questions[0].clone();
            let mut reply = Packet::new_reply(query.id());
            if question.qtype == QTYPE::TYPE(TYPE::A)
                && question.qname.to_string() == "api.trap.test"
            {
                let data = RData::A(A::from(Ipv4Addr::LOCALHOST));
                reply.answers.push(ResourceRecord::new(question.qname.clone(), CLASS::IN, 5, data));
            }
            reply.questions.push(question);
            socket.send_to(&reply.build_bytes_vec().unwrap(), from).unwrap();
        }
    });
    let authority = Authority::new("ca");
    let server = refusing(&authority);
    let hosts = trap.sandbox.write("hosts", "127.0.0.1 localhost\n");
    let resolv_conf =
        trap.sandbox.write("resolv.conf", "nameserver 127.0.0.153\nsearch trap.test\n");
    let mut call = trap.add();
    call.seeing("/etc/hosts", &hosts).seeing("/etc/resolv.conf", &resolv_conf);
    trap.is_not_stepped_into(&authority, &server, &mut call);
}
