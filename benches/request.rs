//! Sends requests with the client of the Kubernetes store, and does nothing else. Use `strace -c`,
//! `perf stat` and `/usr/bin/time` to see what a request costs.
//!
//! Usage: `request KUBECONFIG PATH [TIMES]`. Prints the status, the size and the time of each
//! request.

#[cfg(feature = "kube")]
#[allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "it is a command-line program, and reads the environment as main does"
)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    use hereabouts::api_client::client::Client;
    use hereabouts::api_client::http::{Method, Request};
    use hereabouts::retry::Deadline;
    use std::time::Duration;

    let mut words = std::env::args().skip(1);
    let (Some(kubeconfig), Some(path)) = (words.next(), words.next()) else {
        return Err("usage: request KUBECONFIG PATH [TIMES]".into());
    };
    let times: u32 = words.next().map_or(Ok(1), |word| word.parse())?;
    let limit = Duration::from_secs(10);
    let clock = Deadline::after(limit);
    let client = Client::open(
        kubeconfig.as_ref(),
        &hereabouts::environment::Environment::read(&|name| std::env::var_os(name)).proxy,
    )?;
    println!("opened at {:?}, cluster {}", limit - clock.left(), client.cluster());
    for _ in 0..times {
        let request =
            Request { method: Method::Get, path: &path, accept: "application/json", content: None };
        match client.call(&request, limit) {
            Ok(answer) => println!(
                "{} {} bytes at {:?}",
                answer.status,
                answer.body.len(),
                limit - clock.left()
            ),
            Err(error) => println!("{error:?} at {:?}", limit - clock.left()),
        }
    }
    Ok(())
}

#[cfg(not(feature = "kube"))]
fn main() {}
