//! The vectors of EIP-8, go-ethereum and ethereumjs as literal bytes, for both roles.

use aes::Aes256;
use aes::cipher::{KeyIvInit, StreamCipher};
use bytes::BytesMut;
use ctr::Ctr128BE;
use sha3::{Digest, Keccak256};

use super::ecies::{self, OpenError};
use super::frame::Egress;
use super::handshake::{Established, HandshakeRandom, Initiator, Recipient, Secrets, Step};
use super::mac::Mac;
use crate::node::NodeKey;
use crate::p2p::{Capability, Hello};

// EIP-8: node A dials node B.
const STATIC_A: &str = "49a7b37aa6f6645917e7b807e9d1c00d4fa71f18343b0d4122a4d2df64dd6fee";
const STATIC_B: &str = "b71c71a67e1177ad4e901695e1b4b9ee17ae16c6668d313eac2f96dbcda3f291";
const EPHEMERAL_A: &str = "869d6ecf5211f1cc60418a13b9d870b22959d0c16f02bec714c960dd2298a32d";
const EPHEMERAL_B: &str = "e238eb8e04fee6511ab04c6dd3c89ce097b11f25d584863ac2b6d5b35b1847e4";
const NONCE_A: &str = "7e968bba13b6c50e2c4cd7f241cc0d64d1ac25c7f5952df231ac6a2bda8ee5d6";
const NONCE_B: &str = "559aead08264d5795d3909718cdd05abd49572e84fe55590eef31a88a08fdffd";
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

/// EIP-8 form, version 4.
const AUTH_2: &str = "\
    01b304ab7578555167be8154d5cc456f567d5ba302662433674222360f08d5f1534499d3678b513b0fca474f3a514b18e75683032eb6\
    3fccb16c156dc6eb2c0b1593f0d84ac74f6e475f1b8d56116b849634a8c458705bf83a626ea0384d4d7341aae591fae42ce6bd5c850b\
    fe0b999a694a49bbbaf3ef6cda61110601d3b4c02ab6c30437257a6e0117792631a4b47c1d52fc0f8f89caadeb7d02770bf999cc147d\
    2df3b62e1ffb2c9d8c125a3984865356266bca11ce7d3a688663a51d82defaa8aad69da39ab6d5470e81ec5f2a7a47fb865ff7cca215\
    16f9299a07b1bc63ba56c7a1a892112841ca44b6e0034dee70c9adabc15d76a54f443593fafdc3b27af8059703f88928e199cb122362\
    a4b35f62386da7caad09c001edaeb5f8a06d2b26fb6cb93c52a9fca51853b68193916982358fe1e5369e249875bb8d0d0ec36f917bc5\
    e1eafd5896d46bd61ff23f1a863a8a8dcd54c7b109b771c8e61ec9c8908c733c0263440e2aa067241aaa433f0bb053c7b31a838504b1\
    48f570c0ad62837129e547678c5190341e4f1693956c3bf7678318e2d5b5340c9e488eefea198576344afbdf66db5f51204a6961a63c\
    e072c8926c";

/// EIP-8 form, version 56, three more elements.
const AUTH_3: &str = "\
    01b8044c6c312173685d1edd268aa95e1d495474c6959bcdd10067ba4c9013df9e40ff45f5bfd6f72471f93a91b493f8e00abc4b80f6\
    82973de715d77ba3a005a242eb859f9a211d93a347fa64b597bf280a6b88e26299cf263b01b8dfdb712278464fd1c25840b995e84d36\
    7d743f66c0e54a586725b7bbf12acca27170ae3283c1073adda4b6d79f27656993aefccf16e0d0409fe07db2dc398a1b7e8ee93bcd18\
    1485fd332f381d6a050fba4c7641a5112ac1b0b61168d20f01b479e19adf7fdbfa0905f63352bfc7e23cf3357657455119d879c78d3c\
    f8c8c06375f3f7d4861aa02a122467e069acaf513025ff196641f6d2810ce493f51bee9c966b15c5043505350392b57645385a18c78f\
    14669cc4d960446c17571b7c5d725021babbcd786957f3d17089c084907bda22c2b2675b4378b114c601d858802a55345a15116bc61d\
    a4193996187ed70d16730e9ae6b3bb8787ebcaea1871d850997ddc08b4f4ea668fbf37407ac044b55be0908ecb94d4ed172ece66fd31\
    bfdadf2b97a8bc690163ee11f5b575a4b44e36e2bfb2f0fce91676fd64c7773bac6a003f481fddd0bae0a1f31aa27504e2a533af4cef\
    3b623f4791b2cca6d490";

/// In the form before EIP-8.
const ACK_1: &str = "\
    049f8abcfa9c0dc65b982e98af921bc0ba6e4243169348a236abe9df5f93aa69d99cadddaa387662b0ff2c08e9006d5a11a278b1b333\
    1e5aaabf0a32f01281b6f4ede0e09a2d5f585b26513cb794d9635a57563921c04a9090b4f14ee42be1a5461049af4ea7a7f49bf4c97a\
    352d39c8d02ee4acc416388c1c66cec761d2bc1c72da6ba143477f049c9d2dde846c252c111b904f630ac98e51609b3b1f58168ddca6\
    505b7196532e5f85b259a20c45e1979491683fee108e9660edbf38f3add489ae73e3dda2c71bd1497113d5c755e942d1";

/// EIP-8 form, version 4.
const ACK_2: &str = "\
    01ea0451958701280a56482929d3b0757da8f7fbe5286784beead59d95089c217c9b917788989470b0e330cc6e4fb383c0340ed85fab\
    836ec9fb8a49672712aeabbdfd1e837c1ff4cace34311cd7f4de05d59279e3524ab26ef753a0095637ac88f2b499b9914b5f64e143ea\
    e548a1066e14cd2f4bd7f814c4652f11b254f8a2d0191e2f5546fae6055694aed14d906df79ad3b407d94692694e259191cde171ad54\
    2fc588fa2b7333313d82a9f887332f1dfc36cea03f831cb9a23fea05b33deb999e85489e645f6aab1872475d488d7bd6c7c120caf28d\
    bfc5d6833888155ed69d34dbdc39c1f299be1057810f34fbe754d021bfca14dc989753d61c413d261934e1a9c67ee060a25eefb54e81\
    a4d14baff922180c395d3f998d70f46f6b58306f969627ae364497e73fc27f6d17ae45a413d322cb8814276be6ddd13b885b201b9432\
    13656cde498fa0e9ddc8e0b8f8a53824fbd82254f3e2c17e8eaea009c38b4aa0a3f306e8797db43c25d68e86f262e564086f59a2fc60\
    511c42abfb3057c247a8a8fe4fb3ccbadde17514b7ac8000cdb6a912778426260c47f38919a91f25f4b5ffb455d6aaaf150f7e5529c1\
    00ce62d6d92826a71778d809bdf60232ae21ce8a437eca8223f45ac37f6487452ce626f549b3b5fdee26afd2072e4bc75833c2464c80\
    5246155289f4";

/// EIP-8 form, version 57, three more elements.
const ACK_3: &str = "\
    01f004076e58aae772bb101ab1a8e64e01ee96e64857ce82b1113817c6cdd52c09d26f7b90981cd7ae835aeac72e1573b8a0225dd56d\
    157a010846d888dac7464baf53f2ad4e3d584531fa203658fab03a06c9fd5e35737e417bc28c1cbf5e5dfc666de7090f69c3b2975472\
    5f84f75382891c561040ea1ddc0d8f381ed1b9d0d4ad2a0ec021421d847820d6fa0ba66eaf58175f1b235e851c7e2124069fbc202888\
    ddb3ac4d56bcbd1b9b7eab59e78f2e2d400905050f4a92dec1c4bdf797b3fc9b2f8e84a482f3d800386186712dae00d5c386ec9387a5\
    e9c9a1aca5a573ca91082c7d68421f388e79127a5177d4f8590237364fd348c9611fa39f78dcdceee3f390f07991b7b47e1daa3ebcb6\
    ccc9607811cb17ce51f1c8c2c5098dbdd28fca547b3f58c01a424ac05f869f49c6a34672ea2cbbc558428aa1fe48bbfd61158b1b735a\
    65d99f21e70dbc020bfdface9f724a0d1fb5895db971cc81aa7608baa0920abb0a565c9c436e2fd13323428296c86385f2384e408a31\
    e104670df0791d93e743a3a5194ee6b076fb6323ca593011b7348c16cf58f66b9633906ba54a2ee803187344b394f75dd2e663a57b95\
    6cb830dd7a908d4f39a2336a61ef9fda549180d4ccde21514d117b6c6fd07a9102b5efe710a32af4eeacae2cb3b1dec035b9593b48b9\
    d3ca4c13d245d5f04169b0b1";

/// A Hello with three elements too many. EIP-8 says version 22; the bytes say 55.
const HELLO: &str = "\
    f87137916b6e6574682f76302e39312f706c616e39cdc5836574683dc6846d6f726b1682270fb840fda1cff674c90c9a197539fe3dfb\
    53086ace64f83ed7c6eabec741f7f381cc803e52ab2cd55d5569bce4347107a310dfd5f88a010cd2ffd1005ca406f1842877c883666f\
    6f836261720304";

// A connection that go-ethereum recorded before EIP-8 (https://gist.github.com/fjl/3a78780d17c755d22df2).
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
fn messages_before_eip_8_open_with_no_shared_data() {
    let a = key(STATIC_A).public_key().to_bytes();
    let ephemeral_a = key(EPHEMERAL_A).public_key().to_bytes();
    let ephemeral_b = key(EPHEMERAL_B).public_key().to_bytes();
    let auth = [&unhex(SIGNATURE)[..], &Keccak256::digest(ephemeral_a), &a, &unhex(NONCE_A), &[0]].concat();
    let ack = [&ephemeral_b[..], &unhex(NONCE_B), &[0]].concat();
    assert_eq!(ecies::open(&key(STATIC_B), &[], &mut unhex(AUTH_1)).unwrap(), auth);
    assert_eq!(ecies::open(&key(STATIC_A), &[], &mut unhex(ACK_1)).unwrap(), ack);
    assert_eq!(
        ecies::open(&key(STATIC_B), &[0], &mut unhex(AUTH_1)),
        Err(OpenError::Tag),
        "shared data is authenticated"
    );
}

#[test]
fn messages_before_eip_8_are_not_accepted() {
    // Their first two bytes read as a size, of which 307 and 210 bytes are there.
    let mut auth = &unhex(AUTH_1)[..];
    let Step::More(b) = recipient().receive(&mut auth).unwrap() else { panic!("an auth without a size is accepted") };
    assert_eq!(b.wants(), 2 + 0x048c - 307);
    let filler = vec![0; b.wants()];
    assert!(b.receive(&mut &filler[..]).is_err());

    let mut ack = &unhex(ACK_1)[..];
    let Step::More(a) = initiator().receive(&mut ack).unwrap() else { panic!("an ack without a size is accepted") };
    assert_eq!(a.wants(), 2 + 0x049f - 210);
    let filler = vec![0; a.wants()];
    assert!(a.receive(&mut &filler[..]).is_err());
}

#[test]
fn secrets_of_both_roles_are_those_of_eip_8() {
    let (a, b) = (key(EPHEMERAL_A), key(EPHEMERAL_B));
    let (nonce_a, nonce_b) = (array(NONCE_A), array(NONCE_B));
    for secrets in [
        Secrets::derive(&a, &b.public_key(), &nonce_a, &nonce_b),
        Secrets::derive(&b, &a.public_key(), &nonce_a, &nonce_b),
    ] {
        assert_eq!(secrets.aes[..], unhex(AES_SECRET));
        assert_eq!(secrets.mac[..], unhex(MAC_SECRET));
    }
}

#[test]
fn the_recipient_accepts_auth_2_and_auth_3() {
    for auth in [AUTH_2, AUTH_3] {
        let mut input = &unhex(auth)[..];
        let Step::Done((ack, b)) = recipient().receive(&mut input).unwrap() else { panic!("the auth is whole") };
        assert_eq!(b.remote, key(STATIC_A).public_key(), "R75 H12: version 56 and three more elements");
        assert_eq!(after_foo(b.ingress.mac()) == unhex(INGRESS_MAC_FOO), auth == AUTH_2);
        assert_encrypts_with_the_secret(b);
        // The other end reads what this one answers.
        let Step::Done(a) = initiator().with_auth(unhex(auth)).receive(&mut &ack[..]).unwrap() else {
            panic!("the ack is whole")
        };
        assert_eq!(a.remote, key(STATIC_B).public_key());
    }
}

#[test]
fn the_initiator_accepts_ack_2_and_ack_3() {
    for ack in [ACK_2, ACK_3] {
        let initiator = initiator().with_auth(unhex(AUTH_2));
        let mut input = &unhex(ack)[..];
        let Step::Done(a) = initiator.receive(&mut input).unwrap() else { panic!("the ack is whole") };
        assert_eq!(a.remote, key(STATIC_B).public_key(), "R75 H12: version 57 and three more elements");
        assert_eq!(after_foo(a.egress.mac()), unhex(INGRESS_MAC_FOO), "one end's egress is the other's ingress");
        assert_encrypts_with_the_secret(a);
    }
}

#[test]
fn our_auth_has_the_layout_of_the_vectors() {
    let (_, auth) = Initiator::new(&key(STATIC_A), key(STATIC_B).public_key(), random(EPHEMERAL_A, NONCE_A)).unwrap();
    let (size, sealed) = auth.split_at(2);
    let mut sealed = sealed.to_vec();
    let body = ecies::open(&key(STATIC_B), size, &mut sealed).unwrap();
    // Go makes another signature of the same digest with the same key.
    body[4..69].copy_from_slice(&unhex(SIGNATURE));
    let mut expected = vec![0xf8, 0xa7, 0xb8, 0x41];
    expected.extend(unhex(SIGNATURE));
    expected.extend([0xb8, 0x40]);
    expected.extend(key(STATIC_A).public_key().to_bytes());
    expected.push(0xa0);
    expected.extend(unhex(NONCE_A));
    expected.push(4);
    assert_eq!(body[..expected.len()], expected);
    assert!((100..=199).contains(&(body.len() - expected.len())), "EIP-8: 100 bytes of padding and more");
}

#[test]
fn the_hello_of_eip_8_is_accepted() {
    let a = key(STATIC_A).public_key();
    let hello = Hello::decode(&unhex(HELLO), &key(STATIC_B).public_key(), &a).unwrap();
    let expected = Hello {
        version: 55,
        client_id: "kneth/v0.91/plan9".into(),
        capabilities: vec![Capability::new("eth", 61).unwrap(), Capability::new("mork", 22).unwrap()],
        listen_port: 9999,
        public_key: a,
    };
    assert_eq!(hello, expected, "R75: elements past the fifth are ignored");
}

/// go-ethereum's `TestFrameReadWrite`. Its MAC is a stub there, so the two tags are left out.
#[test]
fn a_frame_is_encrypted_as_in_go_ethereum() {
    let empty: [u8; 32] = Keccak256::digest([]).into();
    let mut egress = Egress::new(&empty, Mac::with_state(&empty, Keccak256::new()));
    let mut frame = BytesMut::new();
    egress.seal(&mut frame, |content| content.extend_from_slice(&unhex("08c401020304"))).unwrap();
    assert_eq!(frame[..16], unhex("00828ddae471818bb0bfa6b551d1cb42"));
    assert_eq!(frame[32..48], unhex("ba628a4ba590cb43f7848f41c4382885"));
    assert_eq!(frame.len(), 64);
}

/// ethereumjs's `rlpx-mac.spec.ts`. It gives the header as text, which is nothing but zeros to a XOR there.
#[test]
fn the_mac_runs_as_in_ethereumjs() {
    let secret = array("4caf4671e713d083128973de159d02688dc86f51535a80178264631e193ed2ea");
    let mac = || Mac::with_state(&secret, Keccak256::new());
    assert_eq!(mac().header(&[0; 16])[..], unhex("52235ed491a4c9224d94788762ead6a6"));
    assert_eq!(mac().body(b"this is a body data struct")[..], unhex("134a755450b1ed9d3ff90ef5dcecdd7d"));
    let mut both = mac();
    both.header(&[0; 16]);
    assert_eq!(both.body(b"this is a body data struct")[..], unhex("5d98967578ec8edbb45e1d75992f394c"));
}

#[test]
fn a_connection_of_go_ethereum_has_these_secrets_and_frames() {
    let (ephemeral_a, ephemeral_b) = (key(GO_EPHEMERAL_A), key(GO_EPHEMERAL_B));
    let (nonce_a, nonce_b) = (array(GO_NONCE_A), array(GO_NONCE_B));
    let secrets = Secrets::derive(&ephemeral_a, &ephemeral_b.public_key(), &nonce_a, &nonce_b);
    assert_eq!(secrets.aes[..], unhex("c0458fa97a5230830e05f4f20b7c755c1d4e54b1ce5cf43260bb191eef4e418d"));
    assert_eq!(secrets.mac[..], unhex("48c938884d5067a1598272fcddaa4b833cd5e7d92e8228c0ecdfabbe68aef7f1"));

    let mac_from_a = || secrets.mac(&nonce_b, &unhex(GO_AUTH));
    let mac_from_b = || secrets.mac(&nonce_a, &unhex(GO_ACK));
    let digest = |mac: Mac| mac.state().clone().finalize().to_vec();
    assert_eq!(digest(mac_from_a()), unhex("09771e93b1a6109e97074cbe2d2b0cf3d3878efafe68f53c41bb60c0ec49097e"));
    assert_eq!(digest(mac_from_b()), unhex("75823d96e23136c89666ee025fb21a432be906512b3dd4a3049e898adb433847"));

    let (static_a, static_b) = (key(GO_STATIC_A).public_key(), key(GO_STATIC_B).public_key());
    let a = secrets.establish(static_b, mac_from_a(), mac_from_b());
    let b = secrets.establish(static_a, mac_from_b(), mac_from_a());
    for (egress, mut ingress, frame, sender) in
        [(a.egress, b.ingress, GO_INITIATOR_HELLO, static_a), (b.egress, a.ingress, GO_RECIPIENT_HELLO, static_b)]
    {
        let content = ingress.open(&mut BytesMut::from(&unhex(frame)[..]), 2048).unwrap().expect("the frame is whole");
        assert_eq!(content[content.len() - 64..], sender.to_bytes(), "a Hello ends with the node id");
        assert_eq!(sealed(egress, &content), unhex(frame));
    }
}

fn unhex(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}

fn array(text: &str) -> [u8; 32] {
    unhex(text).try_into().unwrap()
}

fn key(text: &str) -> NodeKey {
    NodeKey::from_hex(text).unwrap()
}

fn random(ephemeral: &str, nonce: &str) -> HandshakeRandom {
    HandshakeRandom::new(|bytes| bytes.fill(7)).with_ephemeral(key(ephemeral), array(nonce))
}

fn initiator() -> Initiator {
    Initiator::new(&key(STATIC_A), key(STATIC_B).public_key(), random(EPHEMERAL_A, NONCE_A)).unwrap().0
}

fn recipient() -> Recipient {
    Recipient::new(key(STATIC_B), random(EPHEMERAL_B, NONCE_B))
}

fn after_foo(mac: &Mac) -> Vec<u8> {
    mac.state().clone().chain_update("foo").finalize().to_vec()
}

fn sealed(mut egress: Egress, content: &[u8]) -> Vec<u8> {
    let mut frame = BytesMut::new();
    egress.seal(&mut frame, |out| out.extend_from_slice(content)).unwrap();
    frame.to_vec()
}

/// Both directions of a connection encrypt with `AES_SECRET` from counter 0.
fn assert_encrypts_with_the_secret(connection: Established) {
    let frame = sealed(connection.egress, &[0xab; 16]);
    let mut plain = [&frame[..16], &frame[32..48]].concat();
    Ctr128BE::<Aes256>::new(&array(AES_SECRET).into(), &[0; 16].into()).apply_keystream(&mut plain);
    assert_eq!(plain[..6], [0, 0, 16, 0xc2, 0x80, 0x80]);
    assert_eq!(plain[16..], [0xab; 16]);
}
