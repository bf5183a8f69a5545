"""Papers on losses of pairs with a reference model."""

from __future__ import annotations

from mmpo.citation import paper

ENTRIES = {
    "2305.18290": paper(
        "rafailov2023direct",
        "Rafael Rafailov, Archit Sharma, Eric Mitchell, Stefano Ermon, Christopher D. Manning, Chelsea Finn",
        "Direct Preference Optimization: Your Language Model is Secretly a Reward Model",
        2023,
        "NeurIPS 2023",
    ),
    "2309.16240": paper(
        "wang2023beyond",
        "Chaoqi Wang, Yibo Jiang, Chenghao Yang, Han Liu, Yuxin Chen",
        "Beyond Reverse KL: Generalizing Direct Preference Optimization with Diverse Divergence Constraints",
        2023,
        "ICLR 2024",
    ),
    "2310.03708": paper(
        "zhou2023beyond",
        "Zhanhui Zhou, Jie Liu, Jing Shao, Xiangyu Yue, Chao Yang, Wanli Ouyang, Yu Qiao",
        "Beyond One-Preference-Fits-All Alignment: Multi-Objective Direct Preference Optimization",
        2023,
    ),
    "2310.12036": paper(
        "azar2023general",
        "Mohammad Gheshlaghi Azar, Mark Rowland, Bilal Piot, Daniel Guo, Daniele Calandriello, Michal Valko, "
        "Rémi Munos",
        "A General Theoretical Paradigm to Understand Learning from Human Preferences",
        2023,
        "AISTATS 2024",
    ),
    "2402.00856": paper(
        "ji2024towards",
        "Haozhe Ji, Cheng Lu, Yilin Niu, Pei Ke, Hongning Wang, Jun Zhu, Jie Tang, Minlie Huang",
        "Towards Efficient Exact Optimization of Language Model Alignment",
        2024,
        "ICML 2024",
    ),
    "2402.13228": paper(
        "pal2024smaug",
        "Arka Pal, Deep Karkhanis, Samuel Dooley, Manley Roberts, Siddartha Naidu, Colin White",
        "Smaug: Fixing Failure Modes of Preference Optimisation with DPO-Positive",
        2024,
    ),
    "2403.00409": paper(
        "chowdhury2024provably",
        "Sayak Ray Chowdhury, Anush Kini, Nagarajan Natarajan",
        "Provably Robust DPO: Aligning Language Models with Noisy Feedback",
        2024,
    ),
    "2405.00675": paper(
        "wu2024self",
        "Yue Wu, Zhiqing Sun, Huizhuo Yuan, Kaixuan Ji, Yiming Yang, Quanquan Gu",
        "Self-Play Preference Optimization for Language Model Alignment",
        2024,
    ),
    "2405.16388": paper(
        "le2024multi",
        "Hung Le, Quan Tran, Dung Nguyen, Kien Do, Saloni Mittal, Kelechi Ogueji, Svetha Venkatesh",
        "Multi-Reference Preference Optimization for Large Language Models",
        2024,
        "AAAI 2025",
    ),
    "2405.16436": paper(
        "liu2024provably",
        "Zhihan Liu, Miao Lu, Shenao Zhang, Boyi Liu, Hongyi Guo, Yingxiang Yang, Jose Blanchet, Zhaoran Wang",
        "Provably Mitigating Overoptimization in RLHF: Your SFT Loss is Implicitly an Adversarial Regularizer",
        2024,
    ),
    "2405.17956": paper(
        "badrinath2024hybrid",
        "Anirudhan Badrinath, Prabhat Agarwal, Jiajing Xu",
        "Hybrid Preference Optimization: Augmenting Direct Preference Optimization with Auxiliary Objectives",
        2024,
    ),
    "2405.21046": paper(
        "xie2024exploratory",
        "Tengyang Xie, Dylan J. Foster, Akshay Krishnamurthy, Corby Rosset, Ahmed Awadallah, Alexander Rakhlin",
        "Exploratory Preference Optimization: Harnessing Implicit Q*-Approximation for Sample-Efficient RLHF",
        2024,
    ),
    "2406.01462": paper(
        "song2024importance",
        "Yuda Song, Gokul Swamy, Aarti Singh, J. Andrew Bagnell, Wen Sun",
        "The Importance of Online Data: Understanding Preference Fine-tuning via Coverage",
        2024,
    ),
    "2406.01660": paper(
        "choi2024self",
        "Eugene Choi, Arash Ahmadian, Matthieu Geist, Olivier Pietquin, Mohammad Gheshlaghi Azar",
        "Self-Improving Robust Preference Optimization",
        2024,
    ),
    "2406.07327": paper(
        "yan2024properties",
        "Yuzi Yan, Yibo Miao, Jialian Li, Yipin Zhang, Jian Xie, Zhijie Deng, Dong Yan",
        "3D-Properties: Identifying Challenges in DPO and Charting a Path Forward",
        2024,
        "ICLR 2025",
    ),
    "2407.13399": paper(
        "huang2024correcting",
        "Audrey Huang, Wenhao Zhan, Tengyang Xie, Jason D. Lee, Wen Sun, Akshay Krishnamurthy, Dylan J. Foster",
        "Correcting the Mythos of KL-Regularization: Direct Alignment without Overoptimization via Chi-Squared "
        "Preference Optimization",
        2024,
    ),
    "2407.14477": paper(
        "just2024data",
        "Hoang Anh Just, Ming Jin, Anit Sahu, Huy Phan, Ruoxi Jia",
        "Data-Centric Human Preference with Rationales for Direct Preference Alignment",
        2024,
        "COLM 2025",
    ),
    "2408.06266": paper(
        "doosterlinck2024anchored",
        "Karel D'Oosterlinck, Winnie Xu, Chris Develder, Thomas Demeester, Amanpreet Singh, Christopher Potts, "
        "Douwe Kiela, Shikib Mehri",
        "Anchored Preference Optimization and Contrastive Revisions: Addressing Underspecification in Alignment",
        2024,
    ),
    "2408.09834": paper(
        "xie2024minor",
        "Shiming Xie, Hong Chen, Fred Yu, Zeye Sun, Xiuyu Wu, Yingfan Hu",
        "Minor DPO reject penalty to increase training robustness",
        2024,
    ),
    "2410.02197": paper(
        "zhang2024beyond",
        "Yifan Zhang, Ge Zhang, Yue Wu, Kangping Xu, Quanquan Gu",
        "Beyond Bradley-Terry Models: A General Preference Model for Language Model Alignment",
        2024,
        "ICML 2025",
    ),
    "2410.06293": paper(
        "he2024accelerated",
        "Jiafan He, Huizhuo Yuan, Quanquan Gu",
        "Accelerated Preference Optimization for Large Language Model Alignment",
        2024,
    ),
}
