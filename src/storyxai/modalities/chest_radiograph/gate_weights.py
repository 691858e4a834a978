"""Fitted rows of the gate (see gate.py), written by benchmarks/gate_score.py --fit; not to be edited.

int8 [8, 256] in base 85: six poses, mirrored, the mean film. Fitted on NIH ChestX-ray14 films as said there.
"""

from __future__ import annotations

SCALES = (0.00197958, 0.00256967, 0.00153713, 0.00155947, 0.00155639, 0.00233516, 0.00206641, 0.00731396)
BIASES = (-2.27219, -0.232618, -1.36279, 0.139163, 0.167184, 3.56126)
WEIGHTS = (
    "h=GZ>;QJjPA|VCfyO)lJ$;igp=?pJ0FCPQ+<IL8`{`mR*^y~KO=H=Jw_xJ+s87C$h@X^@S*3iu36(cbZD@HjU;JwY@<kPv_88u2IC_yg^zN69l",
    "{n@L{4=F$<5F-)rsGi{v4&$D;_YENv`UvyanxN<z6Xv0*-|zwY;ql<gr?>bYA@Q}b(cS3i*5}&c)8`d2HV@y_+TP;l*yZB=2N^X#Lo*Nv`RV25",
    "+Uo8TD?Up|NlrH{4(#LP-tqGtJ4Q)CM^s8U7w+%t@&yMkQcgxYK2TpzC<y=a_Y)aJYj0gjPG@yrI~@t?*!K%7MLQw~2O>W|CJ*$`ds9O<Cl2=K",
    "==>NgIzv={OCJ&o0r1<;(ctz12M-!aD*^ic0|fT#?)(Y|{`&zg66)^z5gHHw0v93^{p;!){oLpOA2A^b2qH2g|K!>S@zdr7EI1$n{~tCd0_4;A",
    ">(J)~D=`r9@ewa31LoH9@7C-DCny5o;Q}Kg2I|}M_v7^nBO(9b-~b&X4fN&u0`UG09vlGW<^dQR4EpW_5c>ZE3kvw===%)|1N!z59s>OJ_4e%F",
    ";qCVJ_4)o9CkXoI;o;iS(%IkR>GlI7Dhct~&d$lj!^X?f<M9P4I1%yI#J#t%v9!C%-t-PRS1}X=`1SMf@a^sN{}3!%>INArIXpBgDlRrLClm$k",
    "^amI;R&RTMetU0NHWvi;^7;%VMOS2MXkAh|83Xw8-{I~HE=OQ!YFkDq2=3zD*4^m_B0N`TX;n5F0p`}z)7Rqh03A0`Q#K9#@!{0Y(bCw~*Xj!@",
    "Eeqk+;NaKC*4p6G!N}_i5A40a*zD%Y<ns66zP;iF2IRK7<ooy6^9&XE$-w9f3+cki_7fHJ2Pr29*TUlk2j$7z2r4ZD1T8HN;K0!B^4rSg5i2wW",
    "_8=n<>dVXC=GoKe1sy5y-~$Q&@!jL?^y}d1^a2jy&gbgo<m>?y7!LB`;py+gvA@Q{%i8k?3<BZG#>dO4zRBX~=Ir3p)aC8!=-<}N?DX#h1@-LV",
    "=lTN#`t<qg?cCk+1OE8#<@fXY_2KQ>@$KpD>+<8&(&p^_`|j!9@&Wzy-`2ycuF&A|@&5Gt3=i`2{1XiR`U@KX=L8QKJSYA62}ERAQ${x#>+%yG",
    "M>`%JHd9?-VQF1A8V)r#Sz0?iMnpR<ATLHqG%;FPHc>V)D+u7lyx0jYFD^$$3oixt^2w}{ldI493<n+|^bPm-3;5Kyz|Hmp0RbBd><0u77zN<N",
    "#@PW94iy^p+6f&R6%60S#o`Vl6%z~Hvg!W|8Wi^5*Yg$^2KnElk-yLB5h4==01_Y`{@uWVuHx<g93K@60}&q^`P;;&!to3S7Z3B>(d7mf7yakS",
    ">KPv!6a3n{!rKNJ9vcPm{TCA%5AW5zz0>~-5*Zx^78C#g1nJ4NwZQ52{{kriD=HBN?75hMg_*qU1_d(}I7lrmA?CQQuGa%1I6YobSz<RjL_jVc",
    "86!7DJ3?Y!KSLWBI9g(0WNlzTC?PjEDH!<c7EWGVVP;Mo_Wd6p3;+T45iuPJ3>_c?<Ma{%^!EJt^zqrdwb$V8=JM;@(%|On_xkSL+3E55^XB5*",
    ")ZW$Z1^@c+>iPl(_~zu*$mH(*2n+h>=koXm`Q+}`rN7wX=<46h&e`PQ-qy*#Pem*B$;R0H{n59__Ao?78yXSq$GpYo=+3#l;T9Ph_Ynu=%GmH8",
    "ApPgq><tSG`3VE$;PC@1Cj#c<;{pBw_4fVi_Xis}GZO~*^#k<!=kNvq79k!ZBN!hL2n+4%+w2Sp8xQZ}=j#m#0|?^V$=Ce?1n9!Ex5M=N_x{t=",
    "(arS#{oJ#stGD9t@A%l&>e=@H{^-`%)!6a-0s7n4{Nwxw2MrV^9upG?2?FHp4DtW|{ShruNhurw1qJg7B>xHh^$IXiNhS^X0SogLDF6=s=>;!N",
    "O(OK;{tf;oMGqDM<K+x7Fa_!C2pkqweN#ds_Ui*EB?a;OA3RKdEHEbt`vC&`1^)j9_u0_Y79$e?_4f7l3JVGg0PWrC6AT0d`{?TX1r`_u{QUIo",
    "0s#X4^3L1)1tl^L0{;L0<^1^e-Nxhp0UbIc3J3%n;rH+R>+J#x_WlzU1rZ4!<OKf-{R|`%?cDSO_W}GI>JbwY5IRd6<+aA}?d|Ut>=PUsDsprw",
    "*Nl$V=H%@Z^A#KuEq{D0)P#Z4?d0nX^$Z303}#>>-JqKE2>bL4@&4@N{5~-e@6W;n9TWl&<MG$Z-wg=^{rB@BHYpDs+Sa_V$LsF*2@(}KP(&&w",
    ";M>Z>%HHMm3mYOfJvJpE@crrM^Zfev2?hiW85aW(jFp<6r@Y+v`QpK<p`V+QptQZf#ntZ!3G~><!oa$wzTM{H+t}v-0_)h?;pX4N+WrFZ+0NYi",
    "0N~5h?En4T><<j_&A-(C2Hd{J=m!kz@)Hg0#ktf76XU(V;|CD$?hp&;!@l4bB=yI^;RO!s<_QSs$jb64HVoX$;{yrg-UA2h)Y}C)MkMy#>H`Ga",
    "*Z&Fk=<^y#Q#up&_5}de(fkew1rRY+UQ8_!2MPSp%lZ}`BQQx~Xj(%n8V~r($oL;LK~7(7aAs9OEf)61#rY^lSY&T^cyMG>Js$PL!SpFkWN~_b",
    "et2zNL?7_JvfT_YMNwE=T2@X#DF@rI",
)
