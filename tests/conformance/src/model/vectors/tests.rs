//! The model against the vectors.

use aes::Aes256;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use sha3::{Digest, Keccak256};

use super::*;
use crate::hello::RawHello;
use crate::model::frames::{Connection, HEADER, Half, padded};
use crate::model::handshake::{agree, open, open_before_eip_8, public, seal_before_eip_8};

/// The signature in every `auth` (go-ethereum's `rlpx_test.go`).
const SIGNATURE: &str = "299ca6acfd35e3d72d8ba3d1e2b60b5561d5af5218eb5bc182045769eb422691\
    0a301acae3b369fffc4a4899d6b02531e89fd4fe36a2cf0d93607ba470b50f7800";

const AES_SECRET: &str = "80e8632c05fed6fc2a13b0f8d31a3cf645366239170ea067065aba8e28bac487";
const MAC_SECRET: &str = "2ea74ec5dae199227dff1af715362700e989d889d7a493cb0639691efb8e5f98";
/// What B's `ingress-mac` gives after the string "foo", for `AUTH_2`.
const INGRESS_MAC_FOO: &str = "0c7ec6340062cc46f5e9f1e3cf86f8c8c403c5a0964f5df0ebd34a75ddc86db5";
/// In the form before EIP-8.
const AUTH_1: &str = "\
    048ca79ad18e4b0659fab4853fe5bc58eb83992980f4c9cc147d2aa31532efd29a3d3dc6a3d89eaf913150cfc777ce0ce4af2758bf48\
    10235f6e6ceccfee1acc6b22c005e9e3a49d6448610a58e98744ba3ac0399e82692d67c1f58849050b3024e21a52c9d3b01d871ff5f2\
    10817912773e610443a9ef142e91cdba0bd77b5fdf0769b05671fc35f83d83e4d3b0b000c6b2a1b1bba89e0fc51bf4e460df3105c444\
    f14be226458940d6061c296350937ffd5e3acaceeaaefd3c6f74be8e23e0f45163cc7ebd76220f0128410fd05250273156d548a41444\
    4ae2f7dea4dfca2d43c057adb701a715bf59f6fb66b2d1d20f2c703f851cbf5ac47396d9ca65b6260bd141ac4d53e2de585a73d17507\
    80db4c9ee4cd4d225173a4592ee77e2bd94d0be3691f3b406f9bba9b591fc63facc016bfa8";

/// In the form before EIP-8.
const ACK_1: &str = "\
    049f8abcfa9c0dc65b982e98af921bc0ba6e4243169348a236abe9df5f93aa69d99cadddaa387662b0ff2c08e9006d5a11a278b1b333\
    1e5aaabf0a32f01281b6f4ede0e09a2d5f585b26513cb794d9635a57563921c04a9090b4f14ee42be1a5461049af4ea7a7f49bf4c97a\
    352d39c8d02ee4acc416388c1c66cec761d2bc1c72da6ba143477f049c9d2dde846c252c111b904f630ac98e51609b3b1f58168ddca6\
    505b7196532e5f85b259a20c45e1979491683fee108e9660edbf38f3add489ae73e3dda2c71bd1497113d5c755e942d1";

const GO_STATIC_A: &str = "5e173f6ac3c669587538e7727cf19b782a4f2fda07c1eaa662c593e5e85e3051";
const GO_STATIC_B: &str = "c45f950382d542169ea207959ee0220ec1491755abe405cd7498d6b16adb6df8";
const GO_EPHEMERAL_A: &str = "19c2185f4f40634926ebed3af09070ca9e029f2edd5fae6253074896205f5f6c";
const GO_EPHEMERAL_B: &str = "d25688cf0ab10afa1a0e2dba7853ed5f1e5bf1c631757ed4e103b593ff3f5620";
const GO_NONCE_A: &str = "cd26fecb93657d1cd9e9eaf4f8be720b56dd1d39f190c4e1c6b7ec66f077bb11";
const GO_NONCE_B: &str = "f37ec61d84cea03dcc5e8385db93248584e8af4b4d1c832d8c7453c0089687a7";
/// Its `auth`, in the form before EIP-8.
const GO_AUTH: &str = "\
    04a0274c5951e32132e7f088c9bdfdc76c9d91f0dc6078e848f8e3361193dbdc43b94351ea3d89e4ff33ddcefbc80070498824857f49\
    9656c4f79bbd97b6c51a514251d69fd1785ef8764bd1d262a883f780964cce6a14ff206daf1206aa073a2d35ce2697ebf3514225bef1\
    86631b2fd2316a4b7bcdefec8d75a1025ba2c5404a34e7795e1dd4bc01c6113ece07b0df13b69d3ba654a36e35e69ff9d482d88d2f02\
    28e7d96fe11dccbb465a1831c7d4ad3a026924b182fc2bdfe016a6944312021da5cc459713b13b86a686cf34d6fe6615020e4acf26bf\
    0d5b7579ba813e7723eb95b3cef9942f01a58bd61baee7c9bdd438956b426a4ffe238e61746a8c93d5e10680617c82e48d706ac4953f\
    5e1c4c4f7d013c87d34a06626f498f34576dc017fdd3d581e83cfd26cf125b6d2bda1f1d56";

/// Its `ack`, in the form before EIP-8.
const GO_ACK: &str = "\
    049934a7b2d7f9af8fd9db941d9da281ac9381b5740e1f64f7092f3588d4f87f5ce55191a6653e5e80c1c5dd538169aa123e70dc6ffc\
    5af1827e546c0e958e42dad355bcc1fcb9cdf2cf47ff524d2ad98cbf275e661bf4cf00960e74b5956b799771334f426df007350b4604\
    9adb21a6e78ab1408d5e6ccde6fb5e69f0f4c92bb9c725c02f99fa72b9cdc8dd53cff089e0e73317f61cc5abf6152513cb7d833f09d2\
    851603919bf0fbe44d79a09245c6e8338eb502083dc84b846f2fee1cc310d2cc8b1b9334728f97220bb799376233e113";

/// The initiator's first frame, which is its Hello.
const GO_INITIATOR_HELLO: &str = "\
    6ef23fcf1cec7312df623f9ae701e63b550cdb8517fefd8dd398fc2acd1d935e6e0434a2b96769078477637347b7b01924fff9ff1c06\
    df2f804df3b0402bbb9f87365b3c6856b45e1e2b6470986813c3816a71bff9d69dd297a5dbd935ab578f6e5d7e93e4506a44f307c332\
    d95e8a4b102585fd8ef9fc9e3e055537a5cec2e9";

/// The recipient's first frame, which is its Hello.
const GO_RECIPIENT_HELLO: &str = "\
    6ef23fcf1cec7312df623f9ae701e63be36a1cdd1b19179146019984f3625d4a6e0434a2b96769050577657247b7b02bc6c314470eca\
    7e3ef650b98c83e9d7dd4830b3f718ff562349aead2530a8d28a8484604f92e5fced2c6183f304344ab0e7c301a0c05559f4c25db65e\
    36820b4b909a226171a60ac6cb7beea09376d6d8";

#[test]
fn the_auths_say_what_eip_8_has_in_them() {
    for (auth, version) in [(AUTH_2, 4), (AUTH_3, 56)] {
        let read = recipient().read_auth(&bytes(auth)).unwrap();
        assert_eq!(read.public_key, initiator().public_key(), "H12");
        assert_eq!(read.ephemeral, public(&initiator().ephemeral), "H12");
        assert_eq!((read.nonce, read.version), (initiator().nonce, version), "H12");
    }
}

#[test]
fn messages_before_eip_8_open_and_seal() {
    let (a, b) = (initiator(), recipient());
    let auth = [&bytes(SIGNATURE)[..], &Keccak256::digest(public(&a.ephemeral)), &a.public_key(), &a.nonce, &[0]];
    let ack = [&public(&b.ephemeral)[..], &b.nonce, &[0]];
    assert_eq!(open_before_eip_8(&b.key, &bytes(AUTH_1)).unwrap(), auth.concat());
    assert_eq!(open_before_eip_8(&a.key, &bytes(ACK_1)).unwrap(), ack.concat());
    let sealed = seal_before_eip_8(&b.public_key(), &auth.concat());
    assert_eq!(sealed.len(), bytes(AUTH_1).len());
    assert_eq!(open_before_eip_8(&b.key, &sealed).unwrap(), auth.concat());
}

#[test]
fn the_signature_of_the_vectors_leads_to_the_ephemeral_key() {
    let body = open(&recipient().key, &bytes(AUTH_2)).unwrap();
    let signature: Vec<u8> = rlp::Rlp::new(&body).val_at(0).unwrap();
    assert_eq!(signature, bytes(SIGNATURE));
    let own = initiator().auth(&recipient().public_key()).seal();
    assert_eq!(recipient().read_auth(&own).unwrap().ephemeral, public(&initiator().ephemeral));
}

#[test]
fn both_ends_have_the_secrets_of_eip_8() {
    let b = recipient().accept(&bytes(AUTH_2), &bytes(ACK_2)).unwrap();
    let mac = b.ingress.mac.clone().chain_update("foo").finalize();
    assert_eq!(mac[..], bytes(INGRESS_MAC_FOO));
    let a = initiator().read_ack(bytes(AUTH_2), bytes(ACK_2)).unwrap();
    for half in [&a.egress, &a.ingress, &b.egress, &b.ingress] {
        assert_eq!(block(&half.cipher), block(&cipher(AES_SECRET)));
        assert_eq!(block(&half.mac_cipher), block(&cipher(MAC_SECRET)));
    }
    assert_connected(a, b);
}

#[test]
fn ack_3_leads_to_a_connection() {
    let a = initiator().read_ack(bytes(AUTH_3), bytes(ACK_3)).unwrap();
    assert_connected(a, recipient().accept(&bytes(AUTH_3), &bytes(ACK_3)).unwrap());
}

#[test]
fn the_hello_of_eip_8_decodes() {
    let hello = RawHello::decode(&bytes(HELLO)).unwrap();
    let capabilities = vec![(b"eth".to_vec(), 61), (b"mork".to_vec(), 22)];
    let expected = RawHello {
        version: 55,
        client: b"kneth/v0.91/plan9".to_vec(),
        port: 9999,
        ..RawHello::new(&initiator().public_key(), capabilities)
    };
    assert_eq!(hello, expected);
    let more = RawHello { more: bytes("c883666f6f836261720304"), ..expected };
    assert_eq!(more.encode(), bytes(HELLO));
}

/// go-ethereum's `TestFrameReadWrite`. Its MAC is a stub there, so the two tags are left out.
#[test]
fn a_frame_is_encrypted_as_in_go_ethereum() {
    let secret = Aes256::new(&Keccak256::digest([]));
    let mut half = Half { cipher: secret.clone(), blocks: 0, mac_cipher: secret, mac: Keccak256::new() };
    let frame = half.seal(&bytes("08c401020304"));
    assert_eq!(frame[..16], bytes("00828ddae471818bb0bfa6b551d1cb42"));
    assert_eq!(frame[32..48], bytes("ba628a4ba590cb43f7848f41c4382885"));
}

#[test]
fn a_connection_of_go_ethereum_has_these_frames() {
    let a = node(GO_STATIC_A, GO_EPHEMERAL_A, GO_NONCE_A);
    let b = node(GO_STATIC_B, GO_EPHEMERAL_B, GO_NONCE_B);
    let agreed = agree(&a.ephemeral, &public(&b.ephemeral)).unwrap();
    let (auth, ack) = (bytes(GO_AUTH), bytes(GO_ACK));
    let end = |is_initiator| Connection::new(&agreed, (&a.nonce, &auth), (&b.nonce, &ack), is_initiator);
    let (mut at_a, mut at_b) = (end(true), end(false));
    for (egress, ingress, frame, sender) in [
        (&mut at_a.egress, &mut at_b.ingress, GO_INITIATOR_HELLO, &a),
        (&mut at_b.egress, &mut at_a.ingress, GO_RECIPIENT_HELLO, &b),
    ] {
        let (size, mut content) = ingress.open(&bytes(frame)).unwrap();
        content.truncate(size);
        assert_eq!(content[size - 64..], sender.public_key(), "a Hello ends with the node id");
        assert_eq!(egress.seal(&content), bytes(frame));
    }
}

fn assert_connected(mut first: Connection, mut second: Connection) {
    for (egress, ingress) in [(&mut first.egress, &mut second.ingress), (&mut second.egress, &mut first.ingress)] {
        let frame = egress.seal(b"hello");
        assert!(frame.len() > HEADER);
        assert_eq!(ingress.open(&frame).unwrap(), (5, padded(b"hello")));
    }
}

fn cipher(secret: &str) -> Aes256 {
    let secret: [u8; 32] = bytes(secret).try_into().unwrap();
    Aes256::new(&secret.into())
}

fn block(cipher: &Aes256) -> Vec<u8> {
    let mut block = [0; 16].into();
    cipher.encrypt_block(&mut block);
    block.to_vec()
}
