//! Networks as docker's JSON has them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::lenient::{InvalidBody, Object, invalid};
use crate::engine::networks::{CreateNetwork, Member};
use crate::engine::state::networks::Network;
use crate::spec::stack::{Network as NetworkSpec, SubnetSpec};

/// Reads the body of a create; the second part are the fields that we don't know.
pub fn create(body: &Value) -> Result<(CreateNetwork, Vec<String>), InvalidBody> {
    let mut root = Object::open("", body)?;
    // Duplicates are always refused, as docker has it since API 1.44.
    root.flag("CheckDuplicate")?;
    let mut ipam = root.child("IPAM")?;
    let subnets = subnets(&mut ipam)?;
    if let Some(driver) = ipam.optional_text("Driver")?.filter(|driver| driver != "default") {
        return Err(invalid("IPAM.Driver", "\"default\"", &driver.into()));
    }
    for (key, refused) in [("Ingress", true), ("ConfigOnly", true), ("EnableIPv4", false)] {
        if root.value(key).and_then(Value::as_bool) == Some(refused) {
            let expected = if refused { "false" } else { "true" };
            return Err(invalid(key, expected, &refused.into()));
        }
    }
    if let Some(scope) = root.optional_text("Scope")?.filter(|scope| scope != "local") {
        return Err(invalid("Scope", "\"local\"", &scope.into()));
    }
    let spec = NetworkSpec {
        driver: root.optional_text("Driver")?.filter(|driver| driver != "default"),
        internal: root.flag("Internal")?,
        attachable: root.flag("Attachable")?,
        enable_ipv6: root.flag("EnableIPv6")?,
        driver_opts: root.text_map("Options")?,
        labels: root.text_map("Labels")?,
        subnets,
        ..NetworkSpec::default()
    };
    let request = CreateNetwork { name: root.text("Name")?, spec, stack: None };
    let mut unread = root.unread();
    unread.extend(ipam.unread());
    Ok((request, unread))
}

fn subnets(ipam: &mut Object<'_>) -> Result<Vec<SubnetSpec>, InvalidBody> {
    let mut all = Vec::new();
    for mut config in ipam.children("Config")? {
        // An entry without a subnet leaves the choice to us, as compose sends it.
        let Some(subnet) = parsed::<IpNet>(&mut config, "Subnet", "a subnet such as 10.0.0.0/24")?
        else {
            continue;
        };
        let mut reserved = Vec::new();
        for key in ["AuxiliaryAddresses", "AuxAddress"] {
            for (name, text) in config.text_map(key)? {
                let path = format!("{}.{name}", config.at(key));
                let address = text.parse();
                reserved.push(address.map_err(|_| invalid(&path, "an IP address", &text.into()))?);
            }
        }
        all.push(SubnetSpec {
            subnet,
            gateway: parsed::<IpAddr>(&mut config, "Gateway", "an IP address")?,
            ip_range: parsed::<IpNet>(&mut config, "IPRange", "a subnet such as 10.0.0.0/25")?,
            reserved,
        });
    }
    Ok(all)
}

fn parsed<T: std::str::FromStr>(
    config: &mut Object<'_>,
    key: &str,
    expected: &'static str,
) -> Result<Option<T>, InvalidBody> {
    let Some(text) = config.optional_text(key)? else { return Ok(None) };
    match text.parse() {
        Ok(value) => Ok(Some(value)),
        Err(_) => Err(invalid(&config.at(key), expected, &text.into())),
    }
}

/// Docker's `NetworkResource`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkJson {
    name: String,
    id: String,
    created: String,
    scope: &'static str,
    driver: String,
    #[serde(rename = "EnableIPv4")]
    enable_ipv4: bool,
    #[serde(rename = "EnableIPv6")]
    enable_ipv6: bool,
    #[serde(rename = "IPAM")]
    ipam: Value,
    internal: bool,
    attachable: bool,
    ingress: bool,
    config_from: Value,
    config_only: bool,
    containers: Map<String, Value>,
    options: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
}

/// Returns a network as docker shows it. `bridge` is the device of its bridge.
pub fn network(row: &Network, bridge: &str, members: &[Member]) -> NetworkJson {
    let mut options = row.spec.driver_opts.clone();
    if row.name == crate::engine::networks::DEFAULT_NETWORK {
        options.insert("com.docker.network.bridge.name".to_owned(), bridge.to_owned());
        options
            .entry("com.docker.network.driver.mtu".to_owned())
            .or_insert_with(|| "1500".to_owned());
    }
    NetworkJson {
        name: row.name.clone(),
        id: row.id.clone(),
        created: created(row.created_at),
        scope: "local",
        driver: row.spec.driver.clone().unwrap_or_default(),
        enable_ipv4: true,
        enable_ipv6: row.spec.enable_ipv6,
        ipam: ipam(row),
        internal: row.spec.internal,
        attachable: row.spec.attachable,
        ingress: false,
        config_from: json!({ "Network": "" }),
        config_only: false,
        containers: members.iter().map(|one| (one.container.clone(), member(row, one))).collect(),
        options,
        labels: row.spec.labels.clone(),
    }
}

fn ipam(row: &Network) -> Value {
    let config: Vec<Value> = row
        .subnets
        .iter()
        .map(|one| {
            let mut entry = json!({ "Subnet": one.subnet, "Gateway": one.gateway });
            if one.range != one.subnet {
                entry["IPRange"] = json!(one.range);
            }
            let wished = row.spec.subnets.iter().find(|wished| wished.subnet == one.subnet);
            let reserved = wished.map(|wished| wished.reserved.as_slice()).unwrap_or_default();
            if !reserved.is_empty() {
                // The names of the addresses are not kept.
                let named = reserved.iter().enumerate();
                let named: BTreeMap<String, String> = named
                    .map(|(index, address)| (format!("reserved{index}"), address.to_string()))
                    .collect();
                entry["AuxiliaryAddresses"] = json!(named);
            }
            entry
        })
        .collect();
    json!({ "Driver": "default", "Options": null, "Config": config })
}

fn member(row: &Network, member: &Member) -> Value {
    let address = |v4: bool| {
        let net = member.addresses.iter().find(|net| net.addr().is_ipv4() == v4);
        net.map(IpNet::to_string).unwrap_or_default()
    };
    json!({
        "Name": member.name,
        "EndpointID": endpoint_id(&row.id, &member.container),
        "MacAddress": member.mac,
        "IPv4Address": address(true),
        "IPv6Address": address(false),
    })
}

/// Returns the id that docker's clients see for an endpoint; nothing is looked up by it.
pub fn endpoint_id(network: &str, container: &str) -> String {
    let hash = Sha256::digest(format!("{network}/{container}").as_bytes());
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn created(nanoseconds: i64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(nanoseconds))
        .map(|time| time.to_string())
        .unwrap_or_default()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed step fails the test")]
mod tests {
    use super::*;

    #[test]
    fn a_create_is_read_with_its_subnets() {
        let body = json!({
            "name": "n", "Driver": "bridge", "EnableIPv6": true, "Labels": {"a": "b"},
            "IPAM": {"Driver": "default", "Config": [
                {"Subnet": "10.5.0.0/16", "IPRange": "10.5.1.0/24", "Gateway": "10.5.0.1",
                 "AuxiliaryAddresses": {"router": "10.5.0.9"}}, {}]},
        });
        let (request, unread) = create(&body).unwrap();
        assert_eq!(request.name, "n");
        assert_eq!(request.spec.subnets[0].reserved, ["10.5.0.9".parse::<IpAddr>().unwrap()]);
        assert_eq!(request.spec.subnets[0].ip_range.unwrap().to_string(), "10.5.1.0/24");
        assert!(request.spec.enable_ipv6 && unread.is_empty(), "{unread:?}");
    }

    #[test]
    fn what_we_cannot_do_is_refused_and_what_we_do_not_know_is_told() {
        for body in [
            json!({"Name": "n", "Ingress": true}),
            json!({"Name": "n", "EnableIPv4": false}),
            json!({"Name": "n", "IPAM": {"Driver": "dhcp"}}),
            json!({"Name": "n", "IPAM": {"Config": [{"Subnet": "10.5.0.0"}]}}),
        ] {
            assert!(create(&body).is_err(), "{body}");
        }
        let (_, unread) = create(&json!({"Name": "n", "Fancy": 1, "ConfigOnly": false})).unwrap();
        assert_eq!(unread, ["Fancy"]);
    }
}
