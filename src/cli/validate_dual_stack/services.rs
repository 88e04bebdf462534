//! Services: each has cluster IPs of the families that its policy asks for.

use super::printer::Printer;
use super::row::{ByFamily, Row, Verdict, family};
use crate::addr::Family;
use crate::cli::cluster_lists::{Cluster, List};
use serde::Deserialize;

const SERVICES: List = List {
    what: "services",
    right: "services in all namespaces",
    absent: "check that the kubeconfig names a Kubernetes API server",
    path: "/api/v1/services",
    query: "?limit=200",
    accept: "application/json",
};

#[derive(Deserialize)]
struct Service {
    metadata: Metadata,
    spec: Spec,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    #[serde(default)]
    namespace: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Option<Vec<String>>,
    ip_families: Option<Vec<String>>,
    ip_family_policy: Option<String>,
}

/// Checks all services. Returns their number.
pub(super) fn check(cluster: &Cluster, printer: &mut Printer) -> anyhow::Result<usize> {
    let mut count = 0;
    cluster.list(&SERVICES, &mut |item| {
        count += 1;
        printer.add(&row(SERVICES.parse(item)?))
    })?;
    Ok(count)
}

fn row(service: Service) -> Row {
    let Service { metadata, spec } = service;
    let addresses = spec.cluster_ips.unwrap_or_default();
    let families = spec.ip_families.unwrap_or_default();
    let is_headless = addresses.iter().any(|address| address == "None");
    let policy = spec.ip_family_policy.unwrap_or_else(|| "SingleStack".to_owned());
    let (found, what) = if is_headless {
        let listed = |name: &str| {
            let names = families.iter().filter(|family| *family == name);
            names.map(|_| "headless".to_owned()).collect()
        };
        let found = ByFamily { ipv4: listed("IPv4"), ipv6: listed("IPv6") };
        (found, format!("{policy}, headless"))
    } else {
        (ByFamily::of(addresses.iter().map(String::as_str)), policy.clone())
    };
    let verdict = match policy.as_str() {
        _ if spec.kind.as_deref() == Some("ExternalName") => {
            let verdict = Verdict::NotChecked("it has no cluster IPs".to_owned());
            return metadata.row("ExternalName".to_owned(), ByFamily::default(), verdict);
        }
        "SingleStack" => Verdict::SingleStack,
        _ if is_headless => found.verdict("family"),
        _ => verdict_on(&addresses, &families, &found),
    };
    metadata.row(what, found, verdict)
}

/// Returns the verdict on a service that has cluster IPs and asks for both families.
fn verdict_on(addresses: &[String], families: &[String], found: &ByFamily) -> Verdict {
    if let Some(missing) = found.missing("cluster IP") {
        return Verdict::Gap(missing);
    }
    let of_addresses = addresses.iter().map(|address| family(address));
    let listed = families.iter().map(|name| match name.as_str() {
        "IPv4" => Some(Family::V4),
        "IPv6" => Some(Family::V6),
        _ => None,
    });
    match of_addresses.eq(listed) {
        true => Verdict::Good,
        false => Verdict::Gap(format!(
            "the cluster IPs are not of the families in ipFamilies ({})",
            families.join(", ")
        )),
    }
}

impl Metadata {
    fn row(self, what: String, found: ByFamily, verdict: Verdict) -> Row {
        let Self { name, namespace } = self;
        Row { kind: "Service", namespace, name, what, found, verdict }
    }
}

#[cfg(test)]
mod tests {
    use super::row;

    #[test]
    fn a_service_has_the_families_that_its_policy_asks_for() {
        for (spec, what, verdict) in [
            (r#"{"clusterIPs":["10.0.0.1"]}"#, "SingleStack", "single stack"),
            (
                r#"{"clusterIPs":["fd00::1"],"ipFamilies":["IPv6"],"ipFamilyPolicy":"PreferDualStack"}"#,
                "PreferDualStack",
                "gap: no IPv4 cluster IP",
            ),
            (
                r#"{"clusterIPs":["10.0.0.1"],"ipFamilies":["IPv4","IPv6"],"ipFamilyPolicy":"RequireDualStack"}"#,
                "RequireDualStack",
                "gap: no IPv6 cluster IP",
            ),
            (
                r#"{"clusterIPs":["fd00::1","10.0.0.1"],"ipFamilies":["IPv6","IPv4"],"ipFamilyPolicy":"RequireDualStack"}"#,
                "RequireDualStack",
                "ok",
            ),
            (
                r#"{"clusterIPs":["10.0.0.1","fd00::1"],"ipFamilies":["IPv6","IPv4"],"ipFamilyPolicy":"RequireDualStack"}"#,
                "RequireDualStack",
                "gap: the cluster IPs are not of the families in ipFamilies (IPv6, IPv4)",
            ),
            (
                r#"{"clusterIPs":["None"],"ipFamilies":["IPv4"],"ipFamilyPolicy":"PreferDualStack"}"#,
                "PreferDualStack, headless",
                "gap: no IPv6 family",
            ),
            (
                r#"{"clusterIPs":["None"],"ipFamilies":["IPv4","IPv6"],"ipFamilyPolicy":"RequireDualStack"}"#,
                "RequireDualStack, headless",
                "ok",
            ),
            (r#"{"type":"ExternalName"}"#, "ExternalName", "not checked: it has no cluster IPs"),
        ] {
            let text = format!(r#"{{"metadata":{{"name":"a","namespace":"d"}},"spec":{spec}}}"#);
            let cells = row(serde_json::from_str(&text).unwrap()).cells();
            assert_eq!([&*cells[2], &*cells[5]], [what, verdict], "{spec}");
        }
    }
}
