//! `heddle review signatures`.

use std::process::ExitCode;

use anstyle::Style;
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD},
};
use clap::Args;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    super::{
        Common, Result,
        here::Here,
        output::{BAD, BOLD, DIM, GOOD, NOTE, Output, hex, plural, printable, time},
    },
    STATE, client,
    show::kind_name,
    shown, state,
};
use crate::{
    grpc_local_impl::proto::v1::{
        CheckKind, GetReviewProgressRequest, ListSignaturesRequest, ReviewCheckAck, ReviewScope,
        ReviewSignature, Verdict, review_scope::Scope,
    },
    review::KeyLine,
    symbol::SymbolRef,
};

#[derive(Debug, Args)]
pub(in crate::cli) struct SignaturesArgs {
    #[arg(value_name = "REV", help = STATE)]
    state: Option<String>,
}

pub(super) async fn run(common: &Common, args: SignaturesArgs) -> Result {
    let here = common.here()?;
    let (state_id, state) = state(&here, args.state.as_deref()).await?;
    let signatures = signatures(&here, &state_id).await?;
    let checks = checks(&here, &state_id).await?;
    let out = common.out();
    if out.is_json() {
        let signatures: Vec<Value> = signatures.iter().map(signature_as_json).collect();
        let checks: Vec<Value> = checks.iter().map(check_as_json).collect();
        out.json(&json!({
            "state_id": hex(&state_id),
            "signatures": signatures,
            "checks": checks,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    if signatures.is_empty() && checks.is_empty() {
        out.line(format_args!(
            "nobody has signed {}; `heddle review sign` does",
            shown(state)
        ))?;
    }
    for signature in &signatures {
        print_signature(&out, signature)?;
    }
    for check in &checks {
        print_check(&out, check)?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn signatures(here: &Here, state_id: &[u8]) -> Result<Vec<ReviewSignature>> {
    let mut all: Vec<ReviewSignature> = Vec::new();
    loop {
        let last = all.last().map(|last| last.signature_id.clone());
        let request = ListSignaturesRequest {
            state_id: state_id.to_vec(),
            after_signature_id: last.unwrap_or_default(),
            ..ListSignaturesRequest::default()
        };
        let send = async |channel| client(channel).list_signatures(request.clone()).await;
        let page = here.call("reading the signatures", send).await?;
        all.extend(page.signatures);
        if !page.truncated {
            return Ok(all);
        }
    }
}

pub(super) async fn checks(here: &Here, state_id: &[u8]) -> Result<Vec<ReviewCheckAck>> {
    let mut all = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = GetReviewProgressRequest {
            state_id: state_id.to_vec(),
            limit: crate::review::CHECKS_LIMIT,
            page_token,
            ..GetReviewProgressRequest::default()
        };
        let send = async |channel| client(channel).get_review_progress(request.clone()).await;
        let page = here.call("reading the checks", send).await?;
        all.extend(page.acks);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(all);
        }
    }
}

fn print_signature(out: &Output, signature: &ReviewSignature) -> Result<()> {
    let (style, word) = word(signature);
    out.line(format_args!(
        "{}  {style}{word:<15}{style:#}  {} <{}>  {DIM}{}{DIM:#}",
        time(seconds(signature.signed_at.as_ref())),
        printable(&signature.actor_name),
        printable(&signature.actor_email),
        key(&signature.algorithm, &signature.public_key),
    ))?;
    for symbol in symbols(signature.scope.as_ref()).iter().take(SHOWN) {
        out.line(format_args!("    {DIM}of{DIM:#} {}", printable(symbol)))?;
    }
    let rest = symbols(signature.scope.as_ref())
        .len()
        .saturating_sub(SHOWN);
    if rest > 0 {
        let rest = plural(rest as u64, "more symbol", "more symbols");
        out.line(format_args!("    {DIM}and {rest}{DIM:#}"))?;
    }
    for line in said(signature).lines() {
        out.line(format_args!("    {}", printable(line)))?;
    }
    Ok(())
}

/// What it says in a word, and how that is shown.
pub(super) fn word(signature: &ReviewSignature) -> (Style, &'static str) {
    match signature.verdict() {
        Verdict::Unspecified => (BOLD, kind_name(signature.kind())),
        Verdict::Sign => (GOOD, "sign"),
        Verdict::Hold => (NOTE, "hold"),
        Verdict::Reject => (BAD, "reject"),
    }
}

/// Symbols that are shown of one signature.
const SHOWN: usize = 20;

fn print_check(out: &Output, check: &ReviewCheckAck) -> Result<()> {
    let word = if check.acked { "checked" } else { "taken back" };
    out.line(format_args!(
        "{}  {BOLD}{word:<15}{BOLD:#}  {} <{}>  {DIM}{}{DIM:#}\n    {}",
        time(seconds(check.acked_at.as_ref())),
        printable(&check.actor_name),
        printable(&check.actor_email),
        key(&check.algorithm, &check.public_key),
        printable(&check.check_ref),
    ))
}

fn verdict(signature: &ReviewSignature) -> &'static str {
    match signature.verdict() {
        Verdict::Unspecified => "",
        Verdict::Sign => "sign",
        Verdict::Hold => "hold",
        Verdict::Reject => "reject",
    }
}

pub(super) fn said(signature: &ReviewSignature) -> &str {
    match signature.verdict() {
        Verdict::Unspecified => &signature.justification,
        _ => &signature.reason,
    }
}

/// The symbols as `file:symbol`, or the files; none for the whole change.
pub(super) fn symbols(scope: Option<&ReviewScope>) -> Vec<String> {
    let Some(Scope::Symbols(list)) = scope.and_then(|scope| scope.scope.as_ref()) else {
        return Vec::new();
    };
    let named = list.symbols.iter().cloned().map(SymbolRef::from);
    named.map(|one| one.to_string()).collect()
}

pub(super) fn seconds(time: Option<&prost_types::Timestamp>) -> i64 {
    time.map_or(0, |time| time.seconds)
}

/// A key as OpenSSH shows it: what it is for, and its fingerprint.
fn key(algorithm: &str, public_key: &[u8]) -> String {
    let line = KeyLine::parse(public_key).ok();
    let bytes = line.as_ref().map_or(public_key, KeyLine::bytes);
    let fingerprint = BASE64_STANDARD_NO_PAD.encode(Sha256::digest(bytes));
    format!("{} SHA256:{fingerprint}", printable(algorithm))
}

pub(super) fn signature_as_json(signature: &ReviewSignature) -> Value {
    json!({
        "signature_id": signature.signature_id,
        "actor_name": signature.actor_name,
        "actor_email": signature.actor_email,
        "kind": kind_name(signature.kind()),
        "verdict": verdict(signature),
        "symbols": symbols(signature.scope.as_ref()),
        "justification": signature.justification,
        "reason": signature.reason,
        "signed_at": seconds(signature.signed_at.as_ref()),
        "algorithm": signature.algorithm,
        "public_key": BASE64_STANDARD.encode(&signature.public_key),
        "signature": BASE64_STANDARD.encode(&signature.signature),
    })
}

pub(super) fn check_as_json(check: &ReviewCheckAck) -> Value {
    let kind = match check.check_kind() {
        CheckKind::Unspecified => "",
        CheckKind::FileReviewed => "file_reviewed",
        CheckKind::RiskSignalAck => "risk_signal_ack",
    };
    json!({
        "actor_name": check.actor_name,
        "actor_email": check.actor_email,
        "check_kind": kind,
        "check_ref": check.check_ref,
        "acked": check.acked,
        "acked_at": seconds(check.acked_at.as_ref()),
        "algorithm": check.algorithm,
        "public_key": BASE64_STANDARD.encode(&check.public_key),
        "signature": BASE64_STANDARD.encode(&check.signature),
    })
}
