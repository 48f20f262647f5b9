//! What people and their libraries send: commands of Redis, requests of HTTP.

use crate::Seeds;

fn numbered(texts: &[&str]) -> Seeds {
    let named = |(at, text): (usize, &&str)| (format!("{at:02}"), text.as_bytes().to_vec());
    texts.iter().enumerate().map(named).collect()
}

pub(crate) fn resp() -> Seeds {
    numbered(&[
        "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$2\r\n41\r\n*2\r\n$4\r\nINCR\r\n$1\r\na\r\n*2\r\n$3\r\nGET\r\n$1\r\na\r\n",
        "SET a \"b \\x41\\n\" EX 60\r\nGET a\r\nTTL a\r\nPERSIST a\r\n",
        "HELLO 3\r\nSADD s a b c\r\nSREM s b\r\nSMEMBERS s\r\nSISMEMBER s a\r\nSCARD s\r\nSSCAN s 0\r\n",
        "HSET h f v g 2\r\nHINCRBY h g 3\r\nHGETALL h\r\nHDEL h f\r\nHSCAN h 0 MATCH * COUNT 1\r\n",
        "MULTI\r\nSET a 1\r\nINCRBY a 5\r\nEXEC\r\nMGET a b\r\nDEL a b\r\nEXISTS a\r\nTYPE a\r\n",
        "MG.PUT k v\r\nMG.GET k\r\nMG.CADD cart book 2\r\nMG.CGET cart\r\nMG.EXPLAIN k\r\n",
        "PING\r\nECHO x\r\nSELECT 0\r\nCLIENT ID\r\nCOMMAND COUNT\r\nINFO server\r\nSCAN 0 MATCH a* COUNT 10\r\n",
        "*0\r\n*-1\r\n\r\n*1\r\n$0\r\n\r\nQUIT\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "*2\r\n$3\r\nGET\r\n$5\r\nab",
        "EXPIRE a 5 NX\r\nPEXPIREAT a 1700000000000\r\nEXPIRETIME a\r\nSETEX a 5 v\r\nGETEX a PERSIST\r\n",
    ])
}

pub(crate) fn http() -> Seeds {
    numbered(&[
        "PUT /v1/buckets/default/keys/a\n\nmilk\n---\nGET /v1/buckets/default/keys/a\n",
        "POST /v1/buckets/default/counters/c?w=1\n\n{\"add\": 5}\n---\nPOST /v1/buckets/default/counters/c\n\n{\"reset\": true}",
        "POST /v1/buckets/default/sets/s\n\n{\"add\": [\"a\", {\"base64\": \"/w==\"}]}\n---\nGET /v1/buckets/default/sets/s?limit=1\n",
        "POST /v1/buckets/default/carts/c\nidempotency-key: \"one\"\n\n{\"add\": {\"item\": \"book\", \"quantity\": 2}}\n---\nGET /v1/buckets/default/carts/c",
        "POST /v1/buckets/default/registers/r?ttl=60\n\n{\"set\": \"text\", \"timestamp_ms\": 1700000000000}\n---\nPOST /v1/buckets/default/registers/r\n\n{\"increment\": 5}",
        "POST /v1/buckets/default/maps/m\n\n{\"set\": {\"field\": \"text\"}}\n---\nPOST /v1/buckets/default/maps/m\n\n{\"increment\": {\"field\": \"hits\", \"by\": 2}}\n---\nDELETE /v1/buckets/default/maps/m",
        "POST /v1/buckets/default/gsets/g\n\n{\"add\": \"a\"}",
        "POST /v1/batch\n\n{\"operations\": [{\"kind\": \"counters\", \"key\": \"visits\", \"do\": {\"add\": 5}}, {\"kind\": \"keys\", \"key\": \"a\", \"put\": \"b\", \"ttl\": 5}, {\"kind\": \"sets\", \"key\": \"s\", \"get\": true}]}",
        "GET /v1/buckets/default/keys?limit=2&after=abc\n---\nGET /v1/status\n---\nGET /v1/buckets\n",
        "PUT /v1/buckets/carts\n\n{\"n\": 1, \"raw\": \"lww\"}\n---\nPATCH /v1/buckets/carts\n\n{\"r\": 1}\n---\nDELETE /v1/buckets/carts",
        "PUT /v1/buckets/default/expiry/a\n\n{\"ttl\": 5, \"only_if\": \"later\"}\n---\nGET /v1/buckets/default/expiry/a",
        "DELETE /v1/buckets/default/keys/a%2Fb%ff\nmerganser-context: AAAA\n",
        "GET /v1/explain/default/a\n---\nGET /v1/conflicts?limit=5\n---\nGET /metrics\n---\nGET /nowhere",
    ])
}
