//! A model of Whereabouts v0.9.4: its ADD and DEL, request by request, as `IPManagement` makes them
//! under its Lease. Each request is a step, so that another call can come in between.
//!
//! Left out are its faults that no other program can help: an ADD that succeeds although its pool was
//! not written (issue 712), the missing repeats after other errors than a 422, and a DEL that answers
//! with success whatever fails. It does not renew its Lease, which lasts longer than its steps.

use super::objects::{HOME, LEASES, POOL, RANGE};
use crate::schedules::calls::{Answered, Around};
use crate::schedules::world::{Event, Holder, Shown};
use hereabouts::api_client::http::{Method, Request};
use hereabouts::retry::{Deadline, pause};
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// Its interface, which is the same for all containers.
const IFNAME: &str = "net1";
/// The addresses that it may give out of the range, by their keys.
const KEYS: std::ops::RangeInclusive<u8> = 1..=6;
const JSON: &str = "application/json";
/// The pause between two looks at the Lease, and the time after which an unchanged one has expired.
const RETRY: Duration = Duration::from_millis(500);
const EXPIRED: Duration = Duration::from_millis(1_500);
/// For how many looks it waits: two minutes.
const LOOKS: usize = 240;
/// How often it tries to write a pool.
const ROUNDS: usize = 100;

/// Sends a request as one step, and returns the status and the document.
pub(super) fn send(
    around: &Around,
    method: Method,
    path: &str,
    body: Option<(&str, Value)>,
) -> (u16, Value) {
    let body = body.map(|(kind, body)| (kind, body.to_string().into_bytes()));
    let content = body.as_ref().map(|(kind, bytes)| (*kind, bytes.as_slice()));
    let request = Request { method, path, accept: JSON, content };
    let answer = around.scheduler.step(
        around.thread,
        || format!("Whereabouts or an operator: {method:?} {path}"),
        |world, touches| world.objects.serve(&request, touches),
    );
    (answer.status, serde_json::from_slice(&answer.body).unwrap_or_default())
}

/// Changes an object by a merge patch. `object` is the state that was read.
pub(super) fn merge(around: &Around, path: &str, object: &Value, change: Value) -> (u16, Value) {
    let mut change = change;
    change["metadata"] = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
    send(around, Method::Patch, path, Some(("application/merge-patch+json", change)))
}

fn failed(words: &str) -> Answered {
    Err((999, words.to_owned()))
}

/// Returns the address of a key.
pub(super) fn address(key: &str) -> Option<IpAddr> {
    Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, key.parse().ok()?)))
}

/// Returns `namespace/name` of a container's pod.
pub(super) fn podref(container: &str) -> String {
    format!("default/{}", container.split_once('-').map_or(container, |(_, pod)| pod))
}

/// A call of Whereabouts.
struct Call<'a> {
    around: &'a Around,
    container: &'static str,
    /// Who holds the Lease.
    identity: String,
}

impl<'a> Call<'a> {
    fn new(around: &'a Around, container: &'static str) -> Self {
        Self { around, container, identity: format!("kube-system/{}", around.thread) }
    }

    fn holder(&self) -> Holder {
        (self.around.call.node, self.container.to_owned())
    }

    /// Whether it has rights. They last for a call that has begun: `move finish` waits for it.
    fn may(&self) -> bool {
        self.around.scheduler.step(
            self.around.thread,
            || "has Whereabouts its rights?".to_owned(),
            |world, touches| {
                touches.read("rights");
                world.objects.theirs.has_rights
            },
        )
    }

    /// Waits for the Lease, and takes it. Returns it as it was written.
    fn take_lease(&self) -> Option<Value> {
        let path = format!("{LEASES}/whereabouts");
        let (mut seen, mut unchanged) = (Value::Null, Duration::ZERO);
        for _ in 0..LOOKS {
            let mut spec = json!({"holderIdentity": self.identity, "leaseDurationSeconds": 1});
            let (status, lease) = send(self.around, Method::Get, &path, None);
            if status == 404 {
                let object = json!({"metadata": {"name": "whereabouts"}, "spec": spec});
                let made = send(self.around, Method::Post, LEASES, Some((JSON, object)));
                if made.0 == 201 {
                    return Some(made.1);
                }
                continue;
            }
            let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
            if holder.is_empty() || holder == self.identity || EXPIRED <= unchanged {
                let transitions = lease["spec"]["leaseTransitions"].as_u64().unwrap_or(0);
                spec["leaseTransitions"] = json!(transitions + 1);
                let changed = merge(self.around, &path, &lease, json!({"spec": spec}));
                if changed.0 == 200 {
                    return Some(changed.1);
                }
            }
            unchanged = if seen == lease { unchanged + RETRY } else { Duration::ZERO };
            seen = lease;
            pause(&Deadline::after(RETRY), RETRY);
        }
        None
    }

    /// Does work under the Lease, and frees it.
    fn under_lease(&self, work: impl FnOnce() -> Answered) -> Answered {
        let Some(lease) = self.take_lease() else {
            return failed("time limit exceeded while waiting to become leader");
        };
        let done = work();
        let free = json!({"spec": {"holderIdentity": "", "leaseDurationSeconds": 1}});
        merge(self.around, &format!("{LEASES}/whereabouts"), &lease, free);
        done
    }

    /// Returns the pool, which it creates if it is not there.
    fn pool(&self) -> Value {
        let path = format!("{HOME}{POOL}");
        loop {
            let (status, pool) = send(self.around, Method::Get, &path, None);
            if status == 200 {
                return pool;
            }
            let name = POOL.split_once('/').unwrap().1;
            let spec = json!({"range": RANGE, "allocations": {}});
            let object = json!({"metadata": {"name": name}, "spec": spec});
            send(self.around, Method::Post, &format!("{HOME}ippools"), Some((JSON, object)));
        }
    }

    /// Writes the pool if nobody has written it since it was read.
    fn write_pool(&self, pool: &Value, mut steps: Vec<Value>) -> u16 {
        let version = &pool["metadata"]["resourceVersion"];
        let test = json!({"op": "test", "path": "/metadata/resourceVersion", "value": version});
        steps.insert(0, test);
        let patch = Some(("application/json-patch+json", Value::Array(steps)));
        send(self.around, Method::Patch, &format!("{HOME}{POOL}"), patch).0
    }

    /// Writes an entry and a reservation for the container.
    fn assign(&self) -> Result<IpAddr, (u64, String)> {
        let failed = |words: &str| (999, words.to_owned());
        let podref = podref(self.container);
        let mut elsewhere = Vec::new();
        for _ in 0..ROUNDS {
            let pool = self.pool();
            let entries = pool["spec"]["allocations"].as_object().cloned().unwrap_or_default();
            // What a pod of this name has on an interface of this name is its own.
            let own = entries
                .iter()
                .find(|(_, entry)| entry["podref"] == podref && entry["ifname"] == IFNAME);
            let mut free = KEYS.map(|key| key.to_string());
            let free = free.find(|key| !entries.contains_key(key) && !elsewhere.contains(key));
            let Some(key) = own.map(|(key, _)| key.clone()).or(free) else {
                return Err(failed("Could not allocate IP in range"));
            };
            let address = address(&key).unwrap();
            let of_address = format!("{HOME}overlappingrangeipreservations/{address}");
            let (status, reservation) = send(self.around, Method::Get, &of_address, None);
            let is_reserved = status == 200;
            if is_reserved && reservation["spec"]["podref"] != podref {
                elsewhere.push(key);
                continue;
            }
            let path = format!("/spec/allocations/{key}");
            let steps = match own {
                Some(_) => vec![json!({
                    "op": "replace", "path": format!("{path}/id"), "value": self.container,
                })],
                None => vec![
                    json!({"op": "test", "path": path, "value": null}),
                    json!({"op": "add", "path": path, "value": {
                        "id": self.container, "podref": podref, "ifname": IFNAME,
                    }}),
                ],
            };
            match self.write_pool(&pool, steps) {
                200 => {}
                422 => continue,
                _ => return Err(failed("the pool cannot be written")),
            }
            if is_reserved {
                return Ok(address);
            }
            let object = json!({
                "metadata": {"name": address.to_string()},
                "spec": {"podref": podref, "ifname": IFNAME},
            });
            let all = format!("{HOME}overlappingrangeipreservations");
            return match send(self.around, Method::Post, &all, Some((JSON, object))).0 {
                201 => Ok(address),
                _ => Err(failed("the address is reserved by now")),
            };
        }
        Err(failed("the pool changes too often"))
    }

    /// Removes the entry of the container, then the reservation by its name alone.
    fn deallocate(&self) -> Answered {
        for _ in 0..ROUNDS {
            let pool = self.pool();
            let entries = pool["spec"]["allocations"].as_object().cloned().unwrap_or_default();
            let own = entries
                .iter()
                .find(|(_, entry)| entry["id"] == self.container && entry["ifname"] == IFNAME);
            let Some((key, _)) = own else { return Ok(()) };
            let remove = json!({"op": "remove", "path": format!("/spec/allocations/{key}")});
            match self.write_pool(&pool, vec![remove]) {
                200 => {}
                422 => continue,
                _ => return failed("the pool cannot be written"),
            }
            let address = address(key).unwrap();
            let path = format!("{HOME}overlappingrangeipreservations/{address}");
            send(self.around, Method::Delete, &path, None);
            return Ok(());
        }
        failed("the pool changes too often")
    }
}

/// Whereabouts' ADD.
pub(super) fn add(around: &Around, container: &'static str) -> Answered {
    let call = Call::new(around, container);
    if !call.may() {
        return failed("Whereabouts has no rights");
    }
    let mut given = None;
    call.under_lease(|| {
        given = Some(call.assign()?);
        Ok(())
    })?;
    let told = given.map(|address| Shown { holder: call.holder(), address, record: None });
    around.say(&Event::Told(told.into_iter().collect()));
    Ok(())
}

/// Whereabouts' DEL.
pub(super) fn del(around: &Around, container: &'static str) -> Answered {
    let call = Call::new(around, container);
    around.say(&Event::Ending(around.thread, call.holder()));
    if !call.may() {
        return failed("Whereabouts has no rights");
    }
    call.under_lease(|| call.deallocate())?;
    around.say(&Event::Ended(around.thread, call.holder()));
    Ok(())
}
