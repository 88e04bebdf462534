//! Every `Failure` that does not come from the store, and the errors that it contains.

use super::{assert_all, document, variants};
use hereabouts::addr::{Family, Subnet};
use hereabouts::cni::CniError;
use hereabouts::config::{ConfigError, Problem};
use hereabouts::ipam::{Allocation, ClaimProblem, HeldAddress, PlanError, RequestError, Scope};
use hereabouts::plugin::failure::Failure;
use hereabouts::store::StoreError;
use std::net::IpAddr;

fn address() -> IpAddr {
    "10.1.2.7".parse().unwrap()
}

fn subnet() -> Subnet {
    Subnet::parse("10.1.2.0/24").unwrap()
}

fn attachment() -> String {
    "container c1, interface net1, network net1".to_owned()
}

fn pod() -> HeldAddress {
    Allocation {
        scope: Scope::default(),
        address: address(),
        record: crate::conformance::record("n2", "c1", Some("web-0")),
        version: None,
    }
    .into()
}

fn claim() -> HeldAddress {
    crate::support::claims::held("", "10.1.2.1").into()
}

fn plan() -> PlanError {
    PlanError::HoldsOthers { asked: address(), holds: "10.1.2.1, 10.1.2.2".to_owned() }
}

fn requests() -> [RequestError; 8] {
    let origin = || "runtimeConfig.ips[0]".to_owned();
    [
        RequestError::Outside {
            origin: origin(),
            address: address(),
            ranges: "10.1.3.1-10.1.3.9".to_owned(),
        },
        RequestError::NoPrefix { origin: origin(), address: address() },
        RequestError::Barred { origin: origin(), address: address(), what: "excluded" },
        RequestError::Reserved {
            origin: origin(),
            address: address(),
            owner: "pod default/web-0".to_owned(),
        },
        RequestError::Prefix { origin: origin(), address: address(), prefix: 25, subnet: subnet() },
        RequestError::BarredStatic { address: address(), what: "a gateway" },
        RequestError::TooMany { found: 17, most: 16 },
        RequestError::TooManyRequested {
            origin: origin(),
            address: address(),
            most: 1,
            of: "one range".to_owned(),
        },
    ]
}

fn busy() -> StoreError {
    StoreError::Unreachable {
        server: "https://192.0.2.1:6443".to_owned(),
        call: "delete ipallocations/10.1.2.1".to_owned(),
        waited: "30s".to_owned(),
        reason: "connection refused".to_owned(),
        is_away: true,
    }
}

fn failures() -> Vec<Failure> {
    let exhausted = || Failure::Exhausted("10.1.2.0/24".to_owned());
    let config = ConfigError {
        problem: Problem::Meaning,
        place: "ipam.range".to_owned(),
        reason: "expected a string, found 7".to_owned(),
        hint: None,
    };
    vec![
        Failure::Config(config),
        Failure::Request(RequestError::Outside {
            origin: "CNI_ARGS IP".to_owned(),
            address: address(),
            ranges: "10.1.3.1-10.1.3.9".to_owned(),
        }),
        Failure::Plan(plan()),
        Failure::Store(busy()),
        Failure::OwnNetns("/proc/1/ns/net".to_owned()),
        Failure::CallerGone,
        Failure::OnePerFamily { version: "0.2.0", family: Family::V4 },
        exhausted(),
        Failure::NoSlice {
            ranges: "10.1.2.0/24".to_owned(),
            reason: "it owns 8 slices, the most that the pool blue allows".to_owned(),
        },
        Failure::InUse { ranges: "10.1.2.0/24".to_owned(), passed_over: 3 },
        Failure::Own { what: "requested", address: address(), interface: "eth0".to_owned() },
        Failure::Answered {
            what: "static",
            address: address(),
            mac: "02:00:00:00:00:05".to_owned(),
        },
        Failure::GivenByHostLocal {
            what: "requested",
            address: address(),
            container: "c1".to_owned(),
        },
        Failure::HostLocal("/var/lib/cni/networks/net1/10.1.2.3: it names no container".to_owned()),
        Failure::NoProbe {
            interface: "eth1".to_owned(),
            reason: "the interface is down".to_owned(),
        },
        Failure::Held { what: "requested", address: address(), holder: None },
        Failure::Held { what: "reserved", address: address(), holder: Some(Box::new(pod())) },
        Failure::Held { what: "static", address: address(), holder: Some(Box::new(claim())) },
        of_claim(problems().remove(0)),
        Failure::NotRecorded { expected: "2".to_owned(), found: 1, attachment: attachment() },
        Failure::Differs { recorded: "10.1.2.1/24".to_owned(), previous: "10.1.2.7/24".to_owned() },
        Failure::NotReady { reason: "the API server cannot be reached".to_owned(), hint: None },
        Failure::Machine {
            path: "/proc/sys/kernel/random/boot_id".to_owned(),
            reason: "permission denied".to_owned(),
        },
        Failure::NotUndone {
            failure: Box::new(exhausted()),
            undo: Box::new(Failure::Store(busy())),
        },
        Failure::Owed { failure: Box::new(busy()), unnoted: None },
        Failure::Owed {
            failure: Box::new(busy()),
            unnoted: Some("cannot write /run/hereabouts/debts/x: no space left".to_owned()),
        },
        Failure::Unsettled {
            path: "/run/hereabouts/debts/x".to_owned(),
            reason: "its store is away".to_owned(),
        },
        Failure::Partly { failed: 1, all: 3, first: Box::new(Failure::Store(busy())) },
    ]
}

fn of_claim(problem: ClaimProblem) -> Failure {
    Failure::OfClaim { claim: "IPAMClaim default/vm.blue".to_owned(), problem }
}

fn problems() -> Vec<ClaimProblem> {
    vec![
        ClaimProblem::NoClaims,
        ClaimProblem::NoPod,
        ClaimProblem::UnknownPod("default/web-0".to_owned()),
        ClaimProblem::Absent,
        ClaimProblem::Ending,
        ClaimProblem::AddressEnding(address()),
        ClaimProblem::OtherNetwork { expected: "blue".to_owned(), found: "red".to_owned() },
        ClaimProblem::OtherMachine { expected: "vm".to_owned(), found: "none".to_owned() },
        ClaimProblem::InUse(format!("pod default/web-0, {}", attachment())),
        ClaimProblem::HoldsOthers { asked: address(), holds: "10.1.2.7".to_owned() },
        ClaimProblem::Freed(address()),
    ]
}

#[test]
fn every_refusal_of_a_claim_reads_so() {
    let (variants, name_of) = variants!(ClaimProblem: NoClaims NoPod UnknownPod Absent Ending AddressEnding OtherNetwork OtherMachine InUse HoldsOthers Freed);
    let text =
        |problem: ClaimProblem| (name_of(&problem), document(&CniError::from(of_claim(problem))));
    assert_all("ipam-claim", variants, &problems().into_iter().map(text).collect::<Vec<_>>());
}

#[test]
fn every_failure_of_a_verb_reads_so() {
    let (variants, name_of) = variants!(Failure: Config Request Plan Store OwnNetns CallerGone OnePerFamily Exhausted NoSlice InUse Own Answered GivenByHostLocal HostLocal NoProbe Held OfClaim NotRecorded
        Differs NotReady Machine NotUndone Owed Unsettled Partly);
    let text = |failure: Failure| (name_of(&failure), document(&CniError::from(failure)));
    assert_all("failure", variants, &failures().into_iter().map(text).collect::<Vec<_>>());
}

#[test]
fn every_refusal_of_a_request_reads_so() {
    let (variants, name_of) = variants!(RequestError: Outside NoPrefix Barred Reserved Prefix BarredStatic TooMany TooManyRequested);
    let text =
        |error: RequestError| (name_of(&error), document(&CniError::from(Failure::from(error))));
    assert_all("request", variants, &requests().map(text));
    let (variants, name_of) = variants!(PlanError: HoldsOthers);
    assert_all(
        "plan",
        variants,
        &[(name_of(&plan()), document(&CniError::from(Failure::from(plan()))))],
    );
}
